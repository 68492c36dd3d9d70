"""The look of every figure, and figures as SVG that is right on a light and on a dark page.

Figures are drawn once, in the light colours below.  Each colour that must change with the page is an unusual one, so
that it can be found again in the SVG and bound to a CSS variable (:func:`themed_svg`) or overridden in the dark
(:func:`standalone_svg`).  Text stays text: it is small, sharp, selectable and set in the reader's own font; lengths are
computed with DejaVu Sans, which is wider than the fonts of all usual systems, so nothing collides.

A paper draws like this::

    from claimwise.lab.figures import COLOURS, figure, mean_band

    fig, axes = figure()
    mean_band(axes, epsilon, errors, label="maxout", colour=COLOURS.blue)     # errors: (seeds, epsilons)
    axes.set(xlabel="ε", ylabel="error rate")
    axes.legend()
    return fig

A report prints the figure's title under it; axes have titles only where they tell panels apart.

matplotlib is imported inside the functions: importing this module costs nothing.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from claimwise.lab.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Palette(NamedTuple):
    """Six colours in the order in which series take them; by name (`COLOURS.blue`) or by position (`COLOURS[0]`)."""

    blue: str
    orange: str
    green: str
    purple: str
    amber: str
    grey: str


COLOURS = Palette("#0b5cd0", "#ad3c07", "#0f9d6b", "#c34bab", "#b98b00", "#475058")
"""Series colours: apart for the usual colour blindnesses, at least 3 : 1 on white; brighter twins serve dark pages."""
INK = "#1c2127"
"""Text, and whatever must be as strong as text."""
MUTED = "#59626d"
"""Axes, ticks and secondary text."""
RULE = "#dde1e6"
"""Grid lines and hair lines."""
GROUND = "#fefefd"
"""The page itself: fills that must hide what is behind them (nodes of a graph, halos)."""

VARIABLES: dict[str, tuple[str, str]] = {
    INK: ("--figure-ink", "#e7ebf0"),
    "#000000": ("--figure-ink", "#e7ebf0"),  # matplotlib's own default: black text and lines mean ink
    MUTED: ("--figure-muted", "#a1abb7"),
    RULE: ("--figure-rule", "#333b45"),
    GROUND: ("--figure-ground", "#14181d"),
    COLOURS.blue: ("--figure-blue", "#4c9bff"),
    COLOURS.orange: ("--figure-orange", "#e06c38"),
    COLOURS.green: ("--figure-green", "#3fd9a0"),
    COLOURS.purple: ("--figure-purple", "#c673c2"),
    COLOURS.amber: ("--figure-amber", "#f6d060"),
    COLOURS.grey: ("--figure-grey", "#bcc3cb"),
}
"""For each colour of a drawing, the CSS variable it is bound to and its twin on a dark page."""

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


def _parameters() -> dict[str, Any]:
    from cycler import cycler

    return {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "mathtext.fontset": "dejavusans",
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 10,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=list(COLOURS)),
        "axes.xmargin": 0.02,
        "figure.facecolor": "none",
        "figure.titlesize": 11,
        "figure.titleweight": "bold",
        "grid.color": RULE,
        "grid.linewidth": 0.7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "lines.linewidth": 1.8,
        "lines.markersize": 4.5,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "legend.labelcolor": INK,
        "legend.handlelength": 1.4,
        "errorbar.capsize": 2.5,
        "image.cmap": "viridis",
        "image.interpolation": "none",  # pixels are sent as they are and drawn as squares
        "image.composite_image": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "claimwise",  # element ids must not change from one drawing to the next
    }


def figure(
    width: float = 4.4, height: float = 3.0, rows: int = 1, columns: int = 1, **subplots: Any
) -> "tuple[Figure, Any]":
    """A figure in our theme, with no window, no pyplot and no global list of figures behind it.

    The theme's rcParams stay in force for the process, as with `matplotlib.style.use`: legends, labels and lines are
    made after this returns and must find them.

    Args:
        width: Inches; one inch is about 100 px on the page. 4.4 stands well beside another figure, 6.6 fills a page.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
        **subplots: Passed to `Figure.subplots`, e.g. `sharey=True`, `squeeze=False`.

    Returns:
        The figure, and what `Figure.subplots` gives: one Axes, or an array of them.

    Raises:
        ValueError: when a size or a count is not positive.

    Example:
        >>> fig, axes = figure(columns=2, sharey=True)
        >>> len(fig.axes)
        2
    """
    if not (width > 0 and height > 0 and rows >= 1 and columns >= 1):
        raise ValueError(
            f"figure: width, height, rows and columns must be positive, got {width}, {height}, {rows}, {columns}"
        )
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = matplotlib.rcParams
    settings.update(_parameters())
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **subplots)


def mean_band(
    axes: "Axes", x: Any, values_by_seed: Any, label: str = "", colour: str | None = None, **line: Any
) -> None:
    """Draw a curve over seeds: each seed as a hair line, the 95 % t band of the mean, the mean.

    The band is pointwise: at each x it covers the mean over seeds with 95 % probability, not the whole curve at once.
    One seed has no band.

    Args:
        axes: Where to draw.
        x: Coordinates.
        values_by_seed: One row per seed.
        label: For the legend.
        colour: One of `COLOURS`; by default the next of the cycle.
        **line: Passed to the mean line, e.g. `linestyle="--"`, `marker="o"`.

    Shape:
        x (points,), values_by_seed (seeds, points).

    Raises:
        ValueError: on another shape, and on values that are not finite.

    Example:
        >>> fig, axes = figure()
        >>> mean_band(axes, [0, 1], [[0.1, 0.4], [0.2, 0.5]], label="maxout")
        >>> axes.get_legend_handles_labels()[1]
        ['maxout']
    """
    x = np.asarray(x, dtype=float)
    values = np.asarray(values_by_seed, dtype=float)
    if x.ndim != 1 or values.ndim != 2 or values.shape[1] != len(x) or values.size == 0:
        raise ValueError(
            "mean_band: wants x of shape (points,) and values of shape (seeds, points), "
            f"got {x.shape} and {values.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(values).all()):
        raise ValueError("mean_band: x and values must be finite; leave out the points that are undefined")
    seeds = len(values)
    mean = values.mean(axis=0)
    (drawn,) = axes.plot(x, mean, color=colour, label=label or None, zorder=3, **line)
    if seeds > 1:
        from scipy.special import stdtrit

        axes.plot(x, values.T, color=drawn.get_color(), linewidth=0.5, alpha=0.45, zorder=2)
        half = stdtrit(seeds - 1, 0.975) * values.std(axis=0, ddof=1) / np.sqrt(seeds)
        axes.fill_between(x, mean - half, mean + half, color=drawn.get_color(), alpha=0.16, linewidth=0, zorder=1)


def image_grid(
    images: Any,
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    limits: tuple[float, float] | Sequence[tuple[float, float]] | None = (0.0, 1.0),
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    cmap: str = "gray",
    size: float = 1.0,
    title: str = "",
) -> "Figure":
    """Images in rows and columns, each with its title under it and no ticks.

    Args:
        images: Greyscale or RGB images, in reading order.
        titles: One per image, or none; may hold line breaks.
        columns: Images in a row; by default as many as there are column titles, else at most 6.
        limits: The values drawn as black and white (RGB: as 0 and full), for all images or one pair per image;
            None takes each image's own smallest and largest value.
        row_titles: One per row, or none.
        column_titles: One per column, or none.
        cmap: matplotlib's colour map of greyscale images, e.g. "RdBu" for signed ones.
        size: Inches of one image's side.
        title: Of the whole figure.

    Shape:
        Each image (height, width) or (height, width, 3).

    Raises:
        ValueError: without images, on another shape, on values that are not finite, on a wrong number of titles.

    Example:
        >>> fig = image_grid([np.zeros((8, 8)), np.ones((8, 8, 3))], titles=["a 3", "an 8"])
        >>> len(fig.axes)
        2
    """
    pictures = [np.asarray(image, dtype=float) for image in images]
    if not pictures:
        raise ValueError("image_grid: wants at least one image, got none")
    for i, picture in enumerate(pictures):
        if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3) or picture.size == 0:
            raise ValueError(
                f"image_grid: image {i} must be (height, width) or (height, width, 3), got {picture.shape}"
            )
        if not np.isfinite(picture).all():
            raise ValueError(f"image_grid: image {i} holds values that are not finite")
    columns = columns or len(column_titles) or min(len(pictures), 6)
    rows = -(-len(pictures) // columns)
    for name, given, wanted in (
        ("titles", titles, len(pictures)),
        ("row_titles", row_titles, rows),
        ("column_titles", column_titles, columns),
    ):
        if len(given) not in (0, wanted):
            raise ValueError(f"image_grid: {name} must be {wanted} or none, got {len(given)}")
    spans = _limits(limits, pictures)
    lines = max((text.count("\n") + 1 for text in titles), default=0)
    longest = max((len(line) for text in row_titles for line in text.split("\n")), default=0)
    tall = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    fig, grid = figure(
        columns * (size + 0.12) + 0.1 + 0.075 * longest,  # inches: 9-point letters are about .075 wide
        rows * (size * tall + 0.18 * lines + 0.12) + (0.25 if column_titles else 0) + (0.3 if title else 0.05),
        rows,
        columns,
        squeeze=False,
    )
    for axes, picture, (low, high), text in zip(grid.flat, pictures, spans, chain(titles, cycle([""])), strict=False):
        if picture.ndim == 3:
            axes.imshow(np.clip((picture - low) / (high - low), 0, 1))
        else:
            axes.imshow(picture, cmap=cmap, vmin=low, vmax=high)
        axes.set_xlabel(text, fontsize=8.5, labelpad=3)
    for i, axes in enumerate(grid.flat):
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set(visible=i < len(pictures), color=RULE, linewidth=0.6)
    for axes, text in zip(grid[:, 0], row_titles, strict=False):
        axes.set_ylabel(text, fontsize=9, rotation=0, ha="right", va="center")
    for axes, text in zip(grid[0], column_titles, strict=False):
        axes.set_title(text, fontsize=9, loc="center", pad=4)
    if title:
        fig.suptitle(title, x=0.01, ha="left")
    return fig


def _limits(limits: Any, pictures: list[np.ndarray]) -> list[tuple[float, float]]:
    """The values drawn as black and white, one pair per picture."""
    if limits is None:
        spans = [(float(p.min()), float(p.max())) for p in pictures]
        return [(low, high if high > low else low + 1) for low, high in spans]
    if isinstance(limits[0], int | float):
        limits = list(islice(cycle([limits]), len(pictures)))
    if len(limits) != len(pictures):
        raise ValueError(f"image_grid: limits must be one pair or {len(pictures)}, got {len(limits)}")
    for low, high in limits:
        if not low < high:
            raise ValueError(f"image_grid: limits must be (low, high) with low < high, got ({low}, {high})")
    return [(float(low), float(high)) for low, high in limits]


def themed_svg(fig: "Figure", title: str = "", description: str = "") -> str:
    """The figure as one `<svg>` element for a page: it fills its container and takes its colours from the page.

    Colours are `var(--figure-…, light colour)`: the page sets the variables (see :func:`theme_css`), and without them
    the figure is right on a light page. Ids carry a digest of the drawing, so that different figures share a page. The
    same drawing gives the same text.

    Args:
        fig: A matplotlib figure, by preference from :func:`figure`.
        title: What a screen reader calls the figure; by default the figure's or its first axes' title.
        description: What it says of it; by default the axes' titles, labels and legends.

    Example:
        >>> fig, axes = figure()
        >>> _ = axes.plot([0, 1])
        >>> themed_svg(fig, title="A line")[:4]
        '<svg'
    """
    root = _drawing(fig, title, description)
    for element in root.iter():
        style = element.get("style")
        if style:
            element.set("style", re.sub(r"#[0-9a-f]{6}\b", _variable, style))
    return _text(root)


def standalone_svg(fig: "Figure", title: str = "", description: str = "") -> str:
    """The figure as an SVG file: light colours, and dark ones where the viewer asks for a dark scheme.

    It has a ground of its own, because a viewer may show it on any colour. Viewers that know no CSS see it light.
    Arguments as in :func:`themed_svg`.
    """
    root = _drawing(fig, title, description)
    width, height = root.attrib["viewBox"].split()[2:]
    root.set("width", str(round(float(width) * 4 / 3)))  # pixels: 96 an inch, where SVG units are 72
    root.set("height", str(round(float(height) * 4 / 3)))
    rules = [f"[style*='{use}: {light}']{{{use}:{dark}!important}}" for light, (_, dark) in VARIABLES.items()
             for use in ("fill", "stroke")]  # fmt: skip
    style = ElementTree.Element(f"{{{_SVG}}}style")
    style.text = f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"
    ground = ElementTree.Element(
        f"{{{_SVG}}}rect", {"width": "100%", "height": "100%", "rx": "4", "style": f"fill: {GROUND}"}
    )
    after = 1 + max(i for i, child in enumerate(root) if child.tag in (f"{{{_SVG}}}title", f"{{{_SVG}}}desc"))
    root.insert(after, style)
    root.insert(after + 1, ground)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + _text(root) + "\n"


def theme_css(scheme: str) -> str:
    """The declarations a page puts on itself so that themed figures are right: `scheme` is "light" or "dark"."""
    if scheme not in ("light", "dark"):
        raise ValueError(f"theme_css: scheme must be light or dark, got {scheme!r}")
    values = {name: (light if scheme == "light" else dark) for light, (name, dark) in reversed(VARIABLES.items())}
    return ";".join(f"{name}:{value}" for name, value in values.items())


def save(fig: "Figure", folder: Path, name: str) -> tuple[Path, Path]:
    """Write `name`.svg (light and dark) and `name`.png (150 dpi, on white) into `folder`, each atomically.

    Raises:
        ValueError: when `name` is not a plain file name.
    """
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise ValueError(f"save: a figure's name is made of letters, digits, '.', '_' and '-', got {name!r}")
    _settle(fig)
    picture = io.BytesIO()
    fig.savefig(picture, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    write_atomic(svg, standalone_svg(fig).encode())
    write_atomic(png, picture.getvalue())
    return svg, png


def with_prefix(svg: str, prefix: str) -> str:
    """The same SVG with `prefix` before each id and each reference to it, for pages that show one drawing twice."""
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)
    return re.sub(r'(?<=\saria-labelledby=")[^"]*', lambda ids: " ".join(prefix + i for i in ids[0].split()), svg)


def _variable(match: re.Match[str]) -> str:
    colour = match[0]
    return f"var({VARIABLES[colour][0]},{INK if colour == '#000000' else colour})" if colour in VARIABLES else colour


def _drawing(fig: "Figure", title: str, description: str) -> ElementTree.Element:
    """matplotlib's SVG without what a page cannot have: fixed size, page-wide style, metadata, idle ids."""
    import matplotlib

    _settle(fig)
    raw = io.StringIO()
    theme: Any = _parameters()
    with matplotlib.rc_context(
        {name: theme[name] for name in ("svg.fonttype", "svg.hashsalt", "image.composite_image")}
    ):
        fig.savefig(raw, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(raw.getvalue())
    for idle in ("metadata", "defs"):  # the first <defs> holds a style sheet that would reach the whole page
        child = root.find(f"{{{_SVG}}}{idle}")
        if child is not None:
            root.remove(child)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    _tidy(root)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    root.set("font-family", FONTS)
    root.set("role", "img")
    name, said = _said(fig)
    digest = hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8]
    for position, (tag, text) in enumerate((("title", title or name), ("desc", description or said))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", {"id": tag})
        element.text = text
        root.insert(position, element)
    root.set("aria-labelledby", "title desc")
    _rename(root, f"f{digest}-")
    return root


def _settle(fig: "Figure") -> None:
    """Fix the layout, which would move a little with every drawing, and take white panels out of the page's way."""
    if fig.get_layout_engine() is not None:
        for _ in range(2):  # the second pass knows the tick labels of the first
            fig.draw_without_rendering()
        fig.set_layout_engine("none")
    for axes in fig.axes:
        if axes.get_facecolor() == (1.0, 1.0, 1.0, 1.0):
            axes.set_facecolor("none")


def _tidy(root: ElementTree.Element) -> None:
    """Drop white space and digits nobody sees, fonts (the root names them) and ids that nothing refers to."""
    everything = ElementTree.tostring(root, encoding="unicode")
    referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', everything))
    kept = {name for pair in referred for name in pair if name}
    for element in root.iter():
        element.tail = None
        if element.tag not in (f"{{{_SVG}}}text", f"{{{_SVG}}}tspan"):
            element.text = (element.text or "").strip() or None
        if element.get("id") not in kept:
            element.attrib.pop("id", None)
        if "d" in element.attrib:
            path = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", element.attrib["d"])
            element.set("d", " ".join(path.split()))
        if element.tag in (f"{{{_SVG}}}text", f"{{{_SVG}}}tspan"):
            element.set("style", _font(element.get("style", ""), coloured=element.tag.endswith("}text")))
            if len(element):
                element.text = None


def _font(style: str, coloured: bool) -> str:
    """A text's style without its font family, and with the ink that matplotlib leaves out where it is black."""
    style = re.sub(r"font-family:[^;]*(;\s*|$)", "", style)
    # Older versions write the shorthand "font: italic 700 10px 'DejaVu Sans', …".
    shorthand = re.search(r"font:\s*([^;'\"]*?)([\d.]+px)[^;]*(;\s*|$)", style)
    if shorthand:
        words = shorthand[1].split()
        parts = [f"font-size: {shorthand[2]}"]
        parts += ["font-style: " + word for word in words if word in ("italic", "oblique")]
        parts += ["font-weight: " + word for word in words if word == "bold" or word.isdigit()]
        style = style[: shorthand.start()] + "; ".join(parts) + "; " + style[shorthand.end() :]
    style = style.strip().rstrip(";")
    if coloured and not re.search(r"(^|[; ])fill:", style):
        style = f"{style}; fill: {INK}" if style else f"fill: {INK}"
    return style


def _rename(root: ElementTree.Element, prefix: str) -> None:
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                element.set(name, prefix + value)
            elif name == "aria-labelledby":
                element.set(name, " ".join(prefix + part for part in value.split()))
            elif name in ("href", f"{{{_XLINK}}}href") and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))


def _said(fig: "Figure") -> tuple[str, str]:
    """What a figure says in words: its name, and each panel's title, axes and series."""
    heading: str = fig.get_suptitle()
    panels = [" ".join(part for part in _panel(axes) if part) for axes in fig.axes]
    titles: list[str] = [title for axes in fig.axes for title in _titles(axes)]
    name = heading or (titles[0] if titles else "") or str(fig.get_label()) or "Figure"
    return " ".join(name.split()), " ".join(" ".join(panels).split()) or "A drawing."


def _titles(axes: "Axes") -> list[str]:
    return [text for place in ("left", "center", "right") if (text := axes.get_title(loc=place))]


def _panel(axes: "Axes") -> Iterator[str]:
    yield from (f"{text.rstrip('.')}." for text in _titles(axes))
    if axes.get_ylabel() and axes.get_xlabel():
        yield f"{axes.get_ylabel()} against {axes.get_xlabel()}."
    else:
        yield from (f"{text}." for text in (axes.get_xlabel(), axes.get_ylabel()) if text)
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        yield f"Series: {', '.join(labels)}."


def _text(root: ElementTree.Element) -> str:
    return ElementTree.tostring(root, encoding="unicode")
