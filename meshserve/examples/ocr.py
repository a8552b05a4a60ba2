"""OCR: read the text in an image with deployments that scale on their own.

    image bytes -> ImageDecoder -> TextDetector -> TextRecognizer, a call per line -> lines

Decoding a page is cheap, finding its lines takes about a second on one core, reading them some 30 ms each:
three loads, so three deployments, each with its own replicas. The ingress never holds a page: the decoder's
response is the detector's argument (see `chain`), and a large array goes straight from one replica to the
other. The lines of a page are read in parallel, and `serve.batch` fills each run of the model with lines of
whichever requests wait.

The models (PP-OCRv6: Chinese, Japanese, and the languages written in Latin letters) are inside the `rapidocr`
wheel; nothing is downloaded.

    pip install 'meshserve[examples]'
    meshserve run meshserve.examples.ocr:app

    curl localhost:8000 --data-binary @invoice.png
    {"lines":[{"text":"Invoice 20417","confidence":0.99985,
               "box":[[58.0,47.0],[368.0,46.0],[369.0,94.0],[58.0,95.0]]}]}

Over gRPC (`OcrService` in `protos/meshserve/examples/v1/ocr.proto`), once the mesh was started with the service:

    meshserve start --grpc-servicer-functions meshserve.examples.v1.ocr_pb2_grpc.add_OcrServiceServicer_to_server

    import grpc
    from pathlib import Path
    from meshserve.examples.v1.ocr_pb2 import RecognizeRequest
    from meshserve.examples.v1.ocr_pb2_grpc import OcrServiceStub

    with grpc.insecure_channel("localhost:9000") as channel:
        reply = OcrServiceStub(channel).Recognize(RecognizeRequest(image=Path("invoice.png").read_bytes()))
    for line in reply.lines:
        print(line.text, line.confidence)
"""

import asyncio
import io
from dataclasses import asdict, dataclass
from typing import TypeAlias

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse

import meshserve as serve
from meshserve.examples.v1.ocr_pb2 import Line, Point, RecognizeRequest, RecognizeResponse
from meshserve.grpc_util import MeshServegRPCContext
from meshserve.handle import DeploymentHandle

try:
    import numpy as np
    import numpy.typing as npt
    import onnxruntime  # noqa: F401  the engine that rapidocr runs its models on, but does not depend on
    from PIL import Image, ImageOps
    from rapidocr import RapidOCR
except ImportError as missing:
    raise ImportError(f"meshserve.examples.ocr needs {missing.name!r}: pip install 'meshserve[examples]'") from missing

# One thread for each model: replicas then share the cores of the machine instead of each wanting all of them.
ENGINE = {"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1}
LINES_PER_BATCH = 8

# What the decoder accepts from a stranger. Pillow knows formats that start other programs (EPS): not those.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000
MAX_ASPECT = 100
UNREADABLE = (
    f"not an image that can be read: {', '.join(FORMATS)}, "
    f"at most {MAX_PIXELS} pixels, at most {MAX_ASPECT} times as long as wide"
)

Pixels: TypeAlias = npt.NDArray[np.uint8]  # height, width, 3 colours in the order blue, green, red
Box: TypeAlias = list[tuple[float, float]]  # four corners (x, y), clockwise from the top left of the text


class UnreadableImageError(Exception):
    """The bytes are not an image, or one that is too large or too narrow."""


@dataclass(frozen=True, slots=True)
class TextRegion:
    """A part of the page that holds one line of text, cut out and turned upright."""

    box: Box
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text, how sure the recogniser is of it (0 to 1), and where on the page it stands."""

    text: str
    confidence: float
    box: Box


@serve.deployment(ray_actor_options={"num_cpus": 0.2}, autoscaling_config={"max_replicas": 2})
class ImageDecoder:
    """Turns the bytes of an image file into pixels."""

    def decode(self, data: bytes) -> Pixels:
        """The page upright and on white paper. Raises UnreadableImageError."""
        try:
            file = Image.open(io.BytesIO(data), formats=FORMATS)
            if file.width * file.height > MAX_PIXELS or max(file.size) > MAX_ASPECT * min(file.size):
                raise UnreadableImageError(UNREADABLE)
            image = ImageOps.exif_transpose(file).convert("RGBA")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UnreadableImageError(UNREADABLE) from error
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        return np.ascontiguousarray(np.asarray(paper)[:, :, 2::-1])


@serve.deployment(ray_actor_options={"num_cpus": 0.5}, autoscaling_config={"max_replicas": 4})
class TextDetector:
    """Finds the lines of text on a page."""

    def __init__(self) -> None:
        self._ocr = RapidOCR(params=ENGINE)
        self.detect(np.full((64, 64, 3), 255, np.uint8))  # loads the model: a ready replica is a warm one

    def detect(self, page: Pixels) -> list[TextRegion]:
        """The lines from top to bottom, and from left to right where they stand side by side."""
        boxes = self._ocr(page, use_det=True, use_cls=False, use_rec=False).boxes
        if boxes is None:
            return []
        crops = self._ocr.crop_text_regions(page, boxes)
        return [TextRegion([(x, y) for x, y in box.tolist()], crop) for box, crop in zip(boxes, crops, strict=True)]


@serve.deployment(
    ray_actor_options={"num_cpus": 0.5},
    autoscaling_config={"max_replicas": 4},
    max_ongoing_requests=4 * LINES_PER_BATCH,
)
class TextRecognizer:
    """Reads lines of text, several in one run of the model."""

    def __init__(self) -> None:
        self._ocr = RapidOCR(params=ENGINE | {"Rec.rec_batch_num": LINES_PER_BATCH})
        self._read([np.full((48, 320, 3), 255, np.uint8)])

    @serve.batch(max_batch_size=LINES_PER_BATCH, batch_wait_timeout_s=0.01)
    async def recognize(self, lines: list[Pixels]) -> list[tuple[str, float]]:
        """For each line its text and how sure the model is of it, 0 to 1. Called with one line."""
        return await asyncio.to_thread(self._read, lines)

    def _read(self, lines: list[Pixels]) -> list[tuple[str, float]]:
        read = self._ocr.recognize_txt(lines)
        return list(zip(read.txts, map(float, read.scores), strict=True))


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)
class Ocr:
    """Takes images over HTTP and gRPC and puts the parts together."""

    def __init__(self, decoder: DeploymentHandle, detector: DeploymentHandle, recognizer: DeploymentHandle) -> None:
        self._decoder = decoder
        self._detector = detector
        self._recognizer = recognizer

    async def __call__(self, request: Request) -> JSONResponse:
        """HTTP: the image file is the body; 400 when it is none."""
        try:
            lines = await self._lines(await request.body())
        except UnreadableImageError:
            return JSONResponse({"error": UNREADABLE}, status_code=400)
        return JSONResponse({"lines": [asdict(line) for line in lines]})

    async def Recognize(self, request: RecognizeRequest, grpc_context: MeshServegRPCContext) -> RecognizeResponse:
        """gRPC: `OcrService.Recognize`."""
        try:
            lines = await self._lines(request.image)
        except UnreadableImageError:
            grpc_context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            grpc_context.set_details(UNREADABLE)
            raise
        return RecognizeResponse(
            lines=[
                Line(text=line.text, confidence=line.confidence, box=[Point(x=x, y=y) for x, y in line.box])
                for line in lines
            ]
        )

    async def _lines(self, image: bytes) -> list[TextLine]:
        page = self._decoder.decode.remote(image)
        regions: list[TextRegion] = await self._detector.detect.remote(page)
        texts = await asyncio.gather(*(self._recognizer.recognize.remote(region.pixels) for region in regions))
        return [
            TextLine(text, confidence, region.box)
            for region, (text, confidence) in zip(regions, texts, strict=True)
            if text.strip()
        ]


app = Ocr.bind(ImageDecoder.bind(), TextDetector.bind(), TextRecognizer.bind())
