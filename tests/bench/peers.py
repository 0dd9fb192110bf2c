"""The peers that Canoa is measured against: small apps, written out in full."""

from __future__ import annotations

__all__ = [
    "BARE",
    "BARE_FUNCTION",
    "FLOOR",
    "LAMBDA_BARE",
    "LAMBDA_JOBLIB",
    "LAMBDA_TIMED",
    "TUTORIAL",
]

#: (a) The app of most tutorials.
TUTORIAL = """
import os, joblib, pandas as pd
from flask import Flask, jsonify, request
app = Flask(__name__)
model = joblib.load(os.environ["PIPELINE"])
@app.post("/v0/predict")
def predict():
    rows = pd.DataFrame(request.get_json()["instances"])
    labels, probabilities = model.predict(rows), model.predict_proba(rows)
    return jsonify(labels=labels.tolist(), probabilities=probabilities.tolist())
"""

#: (b) The same server stack, which answers a constant.
FLOOR = """
from flask import Flask, request
app = Flask(__name__, static_folder=None)
answer = b'{"predictions":[{"label":"good","probability":0.8070539236068726,"probabilities":' \\
    b'{"bad":0.19294607639312744,"good":0.8070539236068726}}],"model":{"name":"credit","version":"1"}}'
@app.post("/v0/predict")
def predict():
    request.get_data()
    return answer, 200, {"Content-Type": "application/json"}
"""

_OPEN = """
import os
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ORT_DISABLE_TELEMETRY"):
    os.environ.setdefault(name, "1")
import json, numpy as np, onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
with open(os.path.join(os.path.dirname(os.environ["GRAPH"]), "manifest.json")) as file:
    manifest = json.load(file)
names = [feature["name"] for feature in manifest["features"]]
groups = [[names[place] for place in group] for group in manifest["engine"]["inputs"]]
def score(body):
    row = json.loads(body)["instances"][0]
    feed = {
        node.name: np.array(
            [[row[name] for name in group]], dtype=object if "string" in node.type else np.float64
        )
        for node, group in zip(session.get_inputs(), groups)
    }
    return json.dumps([output.tolist() for output in session.run(None, feed)]).encode()
"""

#: A process that only opens the graph and answers: under gunicorn …
BARE = (
    "import flask\n"
    + _OPEN
    + """
def app(environ, start_response):
    body = score(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
"""
)

#: … and under functions-framework.
BARE_FUNCTION = (
    _OPEN
    + """
def predict(request):
    return score(request.get_data()), 200, {"Content-Type": "application/json"}
"""
)

#: On Lambda, the usual handler of tutorials.
LAMBDA_JOBLIB = """
import json, os, joblib, pandas as pd
model = joblib.load(os.environ["PIPELINE"])
def handler(event, context):
    rows = pd.DataFrame(json.loads(event["body"])["instances"])
    labels, probabilities = model.predict(rows), model.predict_proba(rows)
    body = json.dumps({"labels": labels.tolist(), "probabilities": probabilities.tolist()})
    return {"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": body}
"""

#: The smallest handler that works on Lambda.
LAMBDA_BARE = (
    _OPEN
    + """
def handler(event, context):
    return {"statusCode": 200, "body": score(event["body"]).decode()}
"""
)

#: Canoa's handler, with the time that each invocation takes.
LAMBDA_TIMED = """
import time
from serving.adapters import aws
def handler(event, context):
    began = time.perf_counter()
    answer = aws.handler(event, context)
    answer["headers"]["X-Took"] = str(time.perf_counter() - began)
    return answer
"""
