"""Draw the picture on README's first screen: phantoms of both sources, with the fracture's box where there is one."""

from __future__ import annotations

from pathlib import Path

from matplotlib.patches import Rectangle

from fracturelab.images import letterbox
from fracturelab.phantoms import render
from fracturelab.plots import FRACTURED, montage, save_figure

OUT = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "phantoms.png"
CHOICE = (
    ("clinic", 17, True),
    ("clinic", 113, False),
    ("clinic", 118, True),
    ("clinic", 111, False),
    ("clinic", 104, True),
    ("field", 5, True),
    ("field", 207, False),
    ("field", 208, True),
    ("field", 206, True),
    ("field", 54, True),
)
SIDE = 320


def main() -> None:
    """Render, draw, save."""
    images, titles, boxes = [], [], []
    for source, seed, fractured in CHOICE:
        phantom = render(seed, source=source, size=SIDE, fractured=fractured)
        height, width = phantom.image.shape
        left, top = (SIDE - width) // 2, (SIDE - height) // 2
        images.append(letterbox(phantom.image[:, :, None], SIDE))
        titles.append(f"{source}: {phantom.kind or 'normal'}, {phantom.region}")
        x0, y0, x1, y1 = phantom.box or (0, 0, 0, 0)
        boxes.append(Rectangle((x0 + left, y0 + top), x1 - x0, y1 - y0, fill=False, edgecolor=FRACTURED, linewidth=1.2))
    figure = montage(images, titles, columns=5)
    for ax, box in zip(figure.axes, boxes, strict=False):
        if box.get_width():
            ax.add_patch(box)
    save_figure(figure, OUT)
    print(OUT)


if __name__ == "__main__":
    main()
