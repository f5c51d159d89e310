"""An ONNX graph as a function: uint8 pixels (N, H, W, C) -> probabilities (N, K), and the energy (N,) of each picture
where it gives that. No torch, no onnx package."""

import logging

import numpy as np
import onnxruntime as ort

from data.errors import InputError
from data.spec import ImageSpec
from models.bundle.manifest import BundleError

INPUT = "pixels"
OUTPUT = "probabilities"
ENERGY = "energy"  # not in bundles of before
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

logger = logging.getLogger("trainserve.session")


class PixelError(InputError):
    """An array that is not what the network takes."""


def has_cuda() -> bool:
    """Whether the onnxruntime that is installed is made for NVIDIA's GPUs; not whether there is one."""
    return CUDA in ort.get_available_providers()


def connect(model: bytes, *, threads: int = 1, gpu: int | None = None) -> ort.InferenceSession:
    """A session over the graph, on the GPU of this number where it can be: `provider` tells. Raises `BundleError` for
    bytes that are no graph, or one that reads other files."""
    # Weights outside the file need an entry whose key is spelt "location"; protobuf keeps strings as they are, so a
    # graph without these eight bytes has none. (In weights they turn up by chance once in 2^64.)
    if b"location" in model:
        raise BundleError("model.onnx refers to data outside itself, which may be any file; export the run again")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # it throws what matters; the rest would reach the user's terminal
    for pool in ("intra_op", "inter_op"):  # a waiting thread that spins takes a core from the next request
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    if gpu is not None and has_cuda():
        try:
            return ort.InferenceSession(model, options, providers=[(CUDA, _on(gpu)), CPU])
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            logger.warning("GPU %d cannot be used (%s); trying the processor", gpu, _reason(error))
    try:
        return ort.InferenceSession(model, options, providers=[CPU])
    except Exception as error:  # noqa: BLE001 - as above
        reason = _reason(error)
    raise BundleError(f"model.onnx cannot be loaded ({reason}); export the run again")


def _reason(error: Exception) -> str:
    """Its first line."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


def provider(session: ort.InferenceSession) -> str:
    """What answers: onnxruntime leaves one out by itself whose libraries it cannot load."""
    return str(session.get_providers()[0])


def _on(gpu: int) -> dict[str, str]:
    return {
        "device_id": str(gpu),
        # TF32 keeps 10 bits of mantissa: its answers would differ from training's in the third digit.
        "use_tf32": "0",
        # By default each new size of a batch is a search for the fastest kernels, while requests wait.
        "cudnn_conv_algo_search": "HEURISTIC",
    }


def check_signature(session: ort.InferenceSession, *, image: ImageSpec, num_classes: int) -> None:
    """Names, types and shapes are those the card promises; the batch is free. Raises `BundleError`."""
    wanted = [
        (INPUT, "tensor(uint8)", [image.height, image.width, image.channels]),
        (OUTPUT, "tensor(float)", [num_classes]),
    ]
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = [(end.name, end.type, list(end.shape[1:]) if end.shape else None) for end in ends]  # None: no batch
    if found not in (wanted, [*wanted, (ENERGY, "tensor(float)", [])]):
        raise BundleError(f"model.onnx has {found}, its card says {wanted}; export the run again")
    if any(isinstance(end.shape[0], int) for end in ends):
        raise BundleError(f"model.onnx takes batches of {ends[0].shape[0]} only; export it with a free batch size")


def answer(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """pixels u8 (N, H, W, C) -> (N, K) float32; any number of threads may call it at once."""
    result: np.ndarray = session.run([OUTPUT], {INPUT: np.ascontiguousarray(pixels)})[0]
    return result


def has_energy(session: ort.InferenceSession) -> bool:
    return len(session.get_outputs()) > 1


def answer_with_energy(session: ort.InferenceSession, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `answer`, with (N,) float32, of a graph that `has_energy`."""
    answers, energies = session.run([OUTPUT, ENERGY], {INPUT: np.ascontiguousarray(pixels)})
    return answers, energies


def check_pixels(pixels: np.ndarray, image: ImageSpec) -> None:
    """Raises `PixelError` unless u8 (N, H, W, C) in the card's geometry."""
    shape = (image.height, image.width, image.channels)
    if not isinstance(pixels, np.ndarray):
        raise PixelError(f"pixels are a {type(pixels).__name__}; give a numpy array, uint8 (N, {_text(shape)})")
    if pixels.dtype != np.uint8:
        scaled = "; this model scales pixels itself" if pixels.dtype.kind == "f" else ""
        raise PixelError(f"pixels are {pixels.dtype}{scaled}; give uint8 values from 0 to 255")
    if pixels.ndim != 4 or pixels.shape[1:] != shape:
        raise PixelError(f"pixels have shape ({_text(pixels.shape)}); give (N, {_text(shape)})")


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
