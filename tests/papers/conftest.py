"""What the tests of every paper share."""

import pytest


@pytest.fixture
def reads_what_is_returned():
    """Checks that a paper's claims read only measurements that its experiments return."""

    def check(paper, runs):
        for claim in paper.claims.values():
            for criterion in claim.criteria.values():
                for experiment, measurement in criterion.leaves():
                    assert measurement in runs[experiment].measurements, (claim.id, experiment, measurement)
            for expression, _ in claim.reported:
                if not isinstance(expression, str):
                    for leaf in expression.leaves():
                        measured = runs[leaf.experiment.name].measurements
                        assert leaf.measurement in measured, (claim.id, leaf.experiment.name, leaf.measurement)

    return check
