"""Colour arithmetic: repainting the masked part of a drawing in a colour word's hue, saturation and lightness."""

from functools import cache

from PIL import Image

Hsl = tuple[float, float, float]  # degrees, and shares of one


def to_rgb(hue: float, saturation: float, lightness: float) -> tuple[int, int, int]:
    """CSS's hsl() as three bytes."""

    def channel(n: float) -> int:
        k = (n + hue / 30) % 12
        return round(255 * (lightness - saturation * min(lightness, 1 - lightness) * max(-1, min(k - 3, 9 - k, 1))))

    return channel(0), channel(8), channel(4)


def repaint(picture: Image.Image, mask: Image.Image, shade: float, target: Hsl) -> Image.Image:
    """Gives the masked pixels the target's colour; what was lighter or darker than `shade` (0–1) stays so, a little flatter."""
    light = picture.convert("L")
    painted = Image.merge("RGB", [light.point(table) for table in _tables(round(shade, 2), target)])
    painted.putalpha(picture.getchannel("A"))
    return Image.composite(painted, picture, mask)


@cache
def _tables(shade: float, target: Hsl) -> list[list[int]]:
    """For red, green and blue: what each of 256 grey levels becomes."""
    hue, saturation, lightness = target
    levels = [to_rgb(hue, saturation, max(0.06, min(0.98, lightness + 0.6 * (v / 255 - shade)))) for v in range(256)]
    return [list(channel) for channel in zip(*levels)]
