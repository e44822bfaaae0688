"""Colour arithmetic: repainting the masked part of a drawing in a colour word's hue, saturation and lightness."""

from functools import cache

from PIL import Image, ImageChops

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


def light_eyes(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """Turns what is dark outside the mask yellow: the eyes of a black animal."""
    dark = picture.convert("L").point(_DARK)
    eyes = ImageChops.darker(dark, mask.point(_UNMASKED))
    yellow = Image.new("RGB", picture.size, (255, 208, 74))
    yellow.putalpha(picture.getchannel("A"))
    return Image.composite(yellow, picture, eyes)


def tint(picture: Image.Image, colour: tuple[int, int, int], share: float) -> Image.Image:
    """Mixes an RGBA picture with a colour; transparency stays."""
    return picture.point(_tint_table(colour, share))


_DARK = [max(0, min(255, 5 * (85 - v))) for v in range(256)]
_UNMASKED = [max(0, 255 - 4 * v) for v in range(256)]


@cache
def _tint_table(colour: tuple[int, int, int], share: float) -> list[int]:
    return [round(v + (channel - v) * share) for channel in colour for v in range(256)] + list(range(256))


@cache
def _tables(shade: float, target: Hsl) -> list[list[int]]:
    """For red, green and blue: what each of 256 grey levels becomes."""
    hue, saturation, lightness = target
    levels = [to_rgb(hue, saturation, max(0.06, min(0.98, lightness + 0.6 * (v / 255 - shade)))) for v in range(256)]
    return [list(channel) for channel in zip(*levels)]
