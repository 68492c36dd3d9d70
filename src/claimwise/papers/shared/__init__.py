"""What several papers need: experiments whose artefacts they share (``run.needs``) and how data comes to networks."""
