"""Figures: well-formed SVG that keeps its colours in the page's hands, and the helpers that papers draw with."""

import base64
import io
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from claimwise.lab import figures
from claimwise.lab.figures import COLOURS, GROUND, INK, VARIABLES, figure, image_grid, mean_band

SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}"


def curves():
    fig, axes = figure()
    mean_band(axes, [0, 1, 2], [[0, 1, 2], [0, 2, 4], [0, 3, 6]], label="maxout", colour=COLOURS.blue)
    axes.set(xlabel="ε", ylabel="error rate")
    axes.legend()
    return fig


def text_of(svg):
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


class TestThemedSvg:
    def test_is_one_responsive_well_formed_element(self):
        svg = figures.themed_svg(curves())
        root = ElementTree.fromstring(svg)
        assert svg.startswith("<svg ")
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox") == "0 0 316.8 216"
        assert not {"width", "height"} & set(root.attrib)

    def test_nothing_in_it_reaches_the_page_around(self):
        svg = figures.themed_svg(curves())
        root = ElementTree.fromstring(svg)
        assert not [e.tag for e in root.iter() if e.tag in (f"{SVG}style", f"{SVG}script", f"{SVG}metadata")]
        for element in root.iter():
            assert element.get(f"{XLINK}href", "#").startswith(("#", "data:image/png"))

    def test_every_colour_of_the_theme_is_a_variable(self):
        fig, axes = figure(columns=2)
        for i, colour in enumerate(COLOURS):
            axes[0].bar(i, 1, color=colour, edgecolor=GROUND)
        axes[1].plot([0, 1], color="black")
        axes[1].text(0, 0, "plain", color="black")
        axes[1].set(title="t", xlabel="x")
        svg = figures.themed_svg(fig)
        for light, (name, _) in VARIABLES.items():
            if light != "#000000":
                assert f"var({name},{light})" in svg
        assert re.findall(r"(?:fill|stroke): ?(#\w+)", svg) == []
        plain = next(e for e in ElementTree.fromstring(svg).iter(f"{SVG}text") if e.text == "plain")
        assert f"fill: var(--figure-ink,{INK})" in plain.get("style")

    def test_text_stays_text_in_the_readers_font(self):
        svg = figures.themed_svg(curves())
        assert {"ε", "error rate", "maxout", "0", "1.00"} <= set(text_of(svg))
        assert "font-family:" not in svg
        assert 'font-family="system-ui' in svg

    def test_it_says_what_it_shows(self):
        root = ElementTree.fromstring(figures.themed_svg(curves(), title="Error against ε"))
        named = {e.get("id"): e for e in root if e.tag in (f"{SVG}title", f"{SVG}desc")}
        title, description = (named[i].text for i in root.get("aria-labelledby").split())
        assert root.get("role") == "img"
        assert title == "Error against ε"
        assert description == "error rate against ε. Series: maxout."

    def test_ids_of_different_figures_differ_and_all_references_land(self):
        other = image_grid([np.eye(4)], ["one"])
        seen = set()
        for fig in (curves(), other):
            svg = figures.themed_svg(fig)
            ids = re.findall(r'\sid="([^"]+)"', svg)
            assert len(ids) == len(set(ids)) > 2
            assert not seen & set(ids)
            seen |= set(ids)
            assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) <= {(i, "") for i in ids} | {
                ("", i) for i in ids
            }

    def test_with_prefix_moves_ids_and_references_together(self):
        svg = figures.with_prefix(figures.themed_svg(curves()), "a-")
        root = ElementTree.fromstring(svg)
        ids = {e.get("id") for e in root.iter() if e.get("id")}
        assert all(i.startswith("a-f") for i in ids)
        assert set(root.get("aria-labelledby").split()) <= ids
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= ids
        assert {e.get(f"{XLINK}href")[1:] for e in root.iter(f"{SVG}use")} <= ids

    def test_the_same_drawing_gives_the_same_text(self):
        fig = curves()
        first = figures.themed_svg(fig)
        assert figures.themed_svg(fig) == first  # drawing again moves nothing
        assert figures.themed_svg(curves()) == first
        assert not re.search(r"20\d\d-\d\d-\d\d", first)

    def test_and_in_another_process_without_pyplot(self):
        code = (
            "import sys, claimwise.lab.figures as f; assert 'matplotlib' not in sys.modules; "
            "sys.path.insert(0, sys.argv[1]); import test_figures as t; "
            "sys.stdout.reconfigure(encoding='utf-8'); print(f.themed_svg(t.curves())); "
            "assert 'matplotlib.pyplot' not in sys.modules"
        )
        out = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, check=True)
        assert out.stdout.decode().strip() == figures.themed_svg(curves())

    def test_hostile_text_is_text(self):
        fig, axes = figure()
        axes.set(title='<script>"&', xlabel="]]>")
        svg = figures.themed_svg(fig)
        assert "<script>" not in svg
        assert '<script>"&' in text_of(svg)

    def test_panels_of_a_plain_matplotlib_figure_do_not_stay_white(self):
        from matplotlib.figure import Figure

        fig = Figure()
        fig.subplots().plot([0, 1])
        assert "#ffffff" not in figures.themed_svg(fig)

    def test_older_matplotlibs_font_shorthand_is_read(self):
        style = figures._font("font: italic 700 10px 'DejaVu Sans', sans-serif; text-anchor: middle", coloured=True)
        assert style == f"font-size: 10px; font-style: italic; font-weight: 700; text-anchor: middle; fill: {INK}"

    def test_formulas_keep_their_places(self):
        fig, axes = figure()
        axes.set(xlabel="$d^2$")
        (formula,) = [e for e in ElementTree.fromstring(figures.themed_svg(fig)).iter(f"{SVG}text") if len(e)]
        assert [t.text for t in formula] == ["d", "2"]
        assert float(formula[0].get("x")) < float(formula[1].get("x").split()[0])
        assert float(formula[1].get("y")) < float(formula[0].get("y"))


class TestStandaloneAndSave:
    def test_a_file_of_its_own_for_both_schemes(self):
        svg = figures.standalone_svg(curves())
        root = ElementTree.fromstring(svg.encode())
        style = root.find(f"{SVG}style").text
        assert (root.get("width"), root.get("height")) == ("422", "288")
        assert style.startswith("@media (prefers-color-scheme: dark){")
        for light, (_, dark) in VARIABLES.items():
            assert f"[style*='fill: {light}']{{fill:{dark}!important}}" in style
        assert "var(" not in svg  # viewers without CSS variables see the light colours
        assert f"fill: {INK}" in svg
        assert root.find(f"{SVG}rect").get("style") == f"fill: {GROUND}"

    def test_save_writes_svg_and_png(self, tmp_path):
        svg, png = figures.save(curves(), tmp_path, "error_curve")
        assert (svg.name, png.name) == ("error_curve.svg", "error_curve.png")
        assert svg.read_text(encoding="utf-8") == figures.standalone_svg(curves())
        from PIL import Image

        with Image.open(png) as picture:
            assert picture.size == (660, 450)  # 4.4 by 3 inches at 150 dpi
            assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        before = png.read_bytes()
        figures.save(curves(), tmp_path, "error_curve")
        assert png.read_bytes() == before

    @pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
    def test_save_refuses_names_that_are_paths(self, tmp_path, name):
        with pytest.raises(ValueError, match="name is made of"):
            figures.save(curves(), tmp_path, name)
        assert list(tmp_path.iterdir()) == []


class TestFigure:
    def test_rows_and_columns(self):
        fig, axes = figure(6, 4, rows=2, columns=3, sharex=True)
        assert axes.shape == (2, 3)
        assert list(fig.get_size_inches()) == [6, 4]

    @pytest.mark.parametrize(
        "bad", [{"width": 0}, {"height": -1}, {"rows": 0}, {"columns": 0}, {"width": float("nan")}]
    )
    def test_bad_sizes_are_refused(self, bad):
        with pytest.raises(ValueError, match="figure: width, height, rows and columns must be positive"):
            figure(**bad)

    def test_css_names_every_variable_in_both_schemes(self):
        for scheme, position in (("light", 0), ("dark", 1)):
            declared = dict(pair.split(":") for pair in figures.theme_css(scheme).split(";"))
            assert declared == {
                name: (light, dark)[position] for light, (name, dark) in VARIABLES.items() if light != "#000000"
            }
        with pytest.raises(ValueError, match="scheme must be light or dark, got 'auto'"):
            figures.theme_css("auto")


# Machado, Oliveira and Fernandes 2009, severity 1.
BLINDNESS = {
    "none": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_series_colours_stay_apart(blindness, scheme):
    def lab(colour):
        srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        seen = np.clip(BLINDNESS[blindness] @ linear, 0, 1)
        to_xyz = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]])
        xyz = to_xyz @ seen / np.array([0.95047, 1, 1.08883])
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    shown = [(light, VARIABLES[light][1])[scheme] for light in COLOURS]
    # A CIE76 distance of 2.3 is just noticeable; 17 is plain even for thin lines.
    assert min(np.linalg.norm(lab(a) - lab(b)) for a, b in combinations(shown, 2)) >= 17


class TestMeanBand:
    def test_mean_and_t_band(self):
        _, axes = figure()
        values = np.array([[0.1, 0.4], [0.2, 0.6], [0.3, 0.5]])
        mean_band(axes, [1, 2], values, label="a", colour=COLOURS.green)
        mean_line, *seeds = axes.lines
        assert mean_line.get_ydata() == pytest.approx([0.2, 0.5])
        assert [list(line.get_ydata()) for line in seeds] == [list(row) for row in values]
        # t quantile .975 at 2 degrees of freedom: 4.302653
        half = 4.302653 * 0.1 / np.sqrt(3)
        y = axes.collections[0].get_paths()[0].vertices[:, 1]
        assert y.max() == pytest.approx(0.5 + half, rel=1e-6)
        assert y.min() == pytest.approx(0.2 - half, rel=1e-6)
        assert {line.get_color() for line in axes.lines} == {COLOURS.green}

    def test_one_seed_has_no_band(self):
        _, axes = figure()
        mean_band(axes, [1, 2], [[0.1, 0.4]])
        assert (len(axes.lines), len(axes.collections)) == (1, 0)

    def test_colours_follow_the_cycle(self):
        _, axes = figure()
        for _ in range(3):
            mean_band(axes, [0, 1], [[0, 1], [1, 2]])
        assert [line.get_color() for line in axes.lines[::3]] == list(COLOURS[:3])

    @pytest.mark.parametrize(
        ("x", "values", "message"),
        [
            ([0, 1], [0.1, 0.2], "shape"),
            ([0, 1], [[0.1, 0.2, 0.3]], r"got \(2,\) and \(1, 3\)"),
            ([[0, 1]], [[0.1, 0.2]], "shape"),
            ([], np.empty((0, 0)), "shape"),
            ([0, 1], [[0.1, np.nan]], "finite"),
            ([0, np.inf], [[0.1, 0.2]], "finite"),
        ],
    )
    def test_bad_input_is_refused(self, x, values, message):
        _, axes = figure()
        with pytest.raises(ValueError, match=message):
            mean_band(axes, x, values)
        assert len(axes.lines) == 0


class TestImageGrid:
    def pixels(self, svg):
        from PIL import Image

        found = []
        for element in ElementTree.fromstring(svg).iter(f"{SVG}image"):
            data = base64.b64decode(element.get(f"{XLINK}href").partition(",")[2])
            with Image.open(io.BytesIO(data)) as picture:
                found.append(np.asarray(picture.convert("RGB")))
            assert "pixelated" in element.get("style", "")
        return found

    def test_pixels_arrive_as_they_are(self):
        grey = np.array([[0.0, 0.5], [1.0, 2.0]])
        colour = np.zeros((2, 3, 3))
        colour[0, 1] = (1, 0.5, 0)
        svg = figures.themed_svg(image_grid([grey, colour], ["a", "b\nc"]))
        first, second = self.pixels(svg)
        shown = {tuple(p) for p in first.reshape(-1, 3)}
        assert first.shape == (2, 2, 3)
        assert shown == {(0, 0, 0), (128, 128, 128), (255, 255, 255)} or shown == {
            (0, 0, 0),
            (127, 127, 127),
            (255, 255, 255),
        }
        assert second.shape == (2, 3, 3)
        assert {tuple(p) for p in second.reshape(-1, 3)} == {(0, 0, 0), (255, 127, 0)}
        assert {"a", "b", "c"} <= {word for text in text_of(svg) for word in text.split("\n")}

    def test_shape_titles_and_ticks(self):
        fig = image_grid(
            [np.eye(3)] * 5, list("abcde"), columns=3, row_titles=("r", "s"), column_titles=("x", "y", "z"), title="all"
        )
        assert len(fig.axes) == 6
        assert [axes.get_xlabel() for axes in fig.axes] == ["a", "b", "c", "d", "e", ""]
        assert [axes.get_title() for axes in fig.axes[:3]] == ["x", "y", "z"]
        assert [fig.axes[0].get_ylabel(), fig.axes[3].get_ylabel()] == ["r", "s"]
        assert all(len(axes.get_xticks()) == 0 for axes in fig.axes)
        assert not fig.axes[5].spines["left"].get_visible()

    def test_limits_for_all_for_each_and_by_image(self):
        small, large = np.array([[0.0, 0.1]]), np.array([[-3.0, 5.0]])
        for limits, expected in (
            ((0.0, 1.0), [(0, 1), (0, 1)]),
            (None, [(0, 0.1), (-3, 5)]),
            ([(0.0, 2.0), (-5.0, 5.0)], [(0, 2), (-5, 5)]),
        ):
            fig = image_grid([small, large], limits=limits)
            assert [axes.images[0].get_clim() for axes in fig.axes] == expected
        assert image_grid([np.ones((2, 2))], limits=None).axes[0].images[0].get_clim() == (1, 2)

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            ([], {}, "at least one image"),
            ([np.zeros(3)], {}, r"image 0 must be .* got \(3,\)"),
            ([np.zeros((2, 2, 4))], {}, r"got \(2, 2, 4\)"),
            ([np.full((2, 2), np.nan)], {}, "not finite"),
            ([np.eye(2)] * 2, {"titles": ["one"]}, "titles must be 2 or none, got 1"),
            ([np.eye(2)] * 2, {"columns": 1, "row_titles": ["one"]}, "row_titles must be 2"),
            ([np.eye(2)] * 2, {"column_titles": ["a", "b"], "columns": 1}, "column_titles must be 1"),
            ([np.eye(2)] * 2, {"limits": [(0, 1)]}, "limits must be one pair or 2, got 1"),
            ([np.eye(2)], {"limits": (1, 1)}, "low < high"),
        ],
    )
    def test_bad_input_is_refused(self, images, options, message):
        with pytest.raises(ValueError, match=message):
            image_grid(images, **options)
