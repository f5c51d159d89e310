"""ask.py URL BUNDLE: waits until the service is ready, then checks that it answers as the bundle promises.

Standard library only: it runs outside the environment whose contents it helps to prove.
"""

import base64
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def wait_until_ready(url: str, *, seconds: float) -> None:
    begun = time.monotonic()
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2)
            print(f"ready after {time.monotonic() - begun:.1f} s")
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() - begun > seconds:
                sys.exit(f"{url} is not ready after {seconds:.0f} s: {error}")
            time.sleep(0.2)


def predict(url: str, picture: bytes) -> dict:
    body = json.dumps({"image": base64.b64encode(picture).decode()}).encode()
    request = urllib.request.Request(f"{url}/predict", data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def main(url: str, bundle: Path) -> None:
    wait_until_ready(url, seconds=60)
    classes = json.loads((bundle / "card.json").read_text())["classes"]
    golden = json.loads((bundle / "golden/golden.json").read_text())
    for sample in golden["samples"]:
        answer = predict(url, (bundle / "golden" / sample["file"]).read_bytes())
        promised = max(sample["probabilities"])
        label = classes[sample["probabilities"].index(promised)]
        print(f"{sample['file']}: {answer['label']} {answer['probability']:.3f} from {answer['model']}")
        if answer["label"] != label or abs(answer["probability"] - promised) > golden["tolerance"]:
            sys.exit(f"the bundle promises {label} {promised:.3f}")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
