"""How the file of an image is read: as a whole, or strip by strip where it is too large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labelmend.errors import DataError
from labelmend.files.formats import kind_of, split_name
from labelmend.files.readers import read_as
from labelmend.files.slides import is_slide, open_slide
from labelmend.files.tiled import StripImage, open_strips
from labelmend.inference.large import GIB, memory_in_one, memory_in_strips, why_not
from labelmend.inference.predictor import Predictor
from labelmend.inference.way import Way
from labelmend.types import Raster

USUAL_MEMORY = 2.0
"""GiB that one file may take before it is predicted strip by strip, where nobody says."""

_DIVIDED = ("TIFF", "npy")


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens images for a predictor."""

    predictor: Predictor
    way: Way

    def open(self, source: Path) -> Raster | StripImage:
        """The image in memory, or, to be closed by who called, open for strips.

        Raises:
            DataError, SettingsError: naming a file that cannot be read, or not so.
        """
        image = self._in_strips(source)
        if image is None:
            raster = read_as(source, self.predictor.spec)
        else:
            try:
                if self._is_divided(image):
                    return image
                raster = self._whole(source, image)
            except BaseException:
                image.close()
                raise
            image.close()
        self._check_channels(source, raster.array.shape[0])
        self._check_memory(source, raster)
        return raster

    def again(self, source: Path) -> StripImage:
        """A file that was opened for strips, opened once more.

        Raises:
            DataError: when it is not what it was.
        """
        image = self._in_strips(source)
        if image is None:
            raise DataError(f"{source}: changed while it was read; predict it again")
        return image

    def _in_strips(self, source: Path) -> StripImage | None:
        if is_slide(source.name, self.way.level):
            wanted = self.predictor.preparation.spacing or self.predictor.spec.spacing
            return open_slide(source, self.way.level, wanted)
        if self.way.level:
            raise DataError(
                f"{source}: holds one picture, and --level {self.way.level} asks for another one; "
                "predict it without --level"
            )
        divided = kind_of(source.name) in _DIVIDED
        return open_strips(source, self.predictor.spec) if divided else None

    def _whole(self, source: Path, image: StripImage) -> Raster:
        if not is_slide(source.name, self.way.level):
            return read_as(source, self.predictor.spec)
        need = memory_in_one(self.predictor, image.shape, image.dtype.itemsize, image.spacing)
        limit = (self.way.memory or USUAL_MEMORY) * GIB
        if need > limit:
            raise self._too_large(source, need, why_not(self.predictor, image))
        return Raster(image.read(0, image.shape[1]), image.spacing)

    def _is_divided(self, image: StripImage) -> bool:
        predictor, given = self.predictor, self.way.memory
        limit = (given or USUAL_MEMORY) * GIB
        about = image.shape, image.dtype.itemsize
        whole = memory_in_one(predictor, *about, image.spacing)
        strips = memory_in_strips(predictor, *about)
        slide = is_slide(image.path.name, self.way.level)
        if whole <= limit and not slide:
            return False
        self._check_channels(image.path, image.shape[0])
        reason = why_not(predictor, image)
        if slide and not (reason or strips > limit):
            return True
        if whole <= limit:
            return False
        if given is None:
            return not reason and strips < whole
        if reason:
            raise self._too_large(image.path, whole, reason)
        if strips > limit:
            raise self._too_large(image.path, strips, "strip by strip already")
        return True

    def _check_memory(self, source: Path, raster: Raster) -> None:
        array = raster.array
        need = memory_in_one(self.predictor, array.shape, array.itemsize, raster.spacing)
        if self.way.memory is not None and need > self.way.memory * GIB:
            suffix = split_name(source.name)[1]
            usual = f"this {suffix} file is read as a whole; save it as tiled TIFF"
            raise self._too_large(source, need, why_not(self.predictor, raster) or usual)

    def _too_large(self, source: Path, need: int, reason: str) -> DataError:
        return DataError(
            f"{source}: takes about {need / GIB:.1f} GiB, more than --memory "
            f"{self.way.memory or USUAL_MEMORY:g}: {reason}, "
            f"or give --memory {need / GIB + 0.1:.1f}"
        )

    def _check_channels(self, source: Path, channels: int) -> None:
        check_channels(source, channels, self.predictor.spec.channels)


def check_channels(source: Path, channels: int, wanted: int) -> None:
    """Refuse an image with another number of channels than a network learned from."""
    if channels != wanted:
        raise DataError(
            f"{source} has {channels} channel{'s' * (channels != 1)}, and the images that the "
            f"network was trained on {wanted}; convert it"
        )
