"""Models for clients of the Open Inference Protocol (KServe, Triton): tensors in, tensors out.

@serve.deployment
@inference.model(inputs=[inference.Tensor("x", "FP32", [-1, 4])], outputs=[inference.Tensor("y", "FP32", [-1])])
class Regression:
    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"y": inputs["x"] @ self.weights}
"""

from meshserve.user.inference import InferenceRequest, model
from meshserve.user.inference_model import Tensor

__all__ = ["InferenceRequest", "Tensor", "model"]
