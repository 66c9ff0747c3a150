"""The one way from an image file to pixels: decode, grayscale, letterbox, and the on-disk cache.

Nothing else in the project opens an image file, so training, evaluation, prediction and the app see the same pixels.
Every image comes out as uint8, (height, width, 1), bone bright, 0 for black and for padding.
"""

from fracturelab.images.cache import default_cache_dir, load_images, load_readable_images
from fracturelab.images.decode import image_facts, read_image
from fracturelab.images.letterbox import letterbox, load_image, picture_area

__all__ = [
    "default_cache_dir",
    "image_facts",
    "letterbox",
    "load_image",
    "load_images",
    "load_readable_images",
    "picture_area",
    "read_image",
]
