"""Makes one call through the OpenAI SDK and prints what the SDK understood, errors included.

Arguments: the gateway's base URL, what to do, and the call's parameters as JSON.
"""

import json
import os
import sys

import openai

base_url, act, parameters = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
client = openai.OpenAI(base_url=base_url, api_key=os.environ["TEST_GATE_KEY"], max_retries=0, timeout=30)


def usage(response):
    return {"input": response.usage.input_tokens, "output": response.usage.output_tokens}


def create():
    response = client.responses.create(**parameters)
    return {"id": response.id, "status": response.status, "text": response.output_text, "usage": usage(response)}


def stream():
    events, text, ended = [], "", None
    for event in client.responses.create(stream=True, **parameters):
        events.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            ended = event.response
    return {"events": events, "text": text, "id": ended and ended.id, "usage": ended and usage(ended)}


def models():
    return {"models": [model.id for model in client.models.list().data]}


def raw():
    """Posts a body that the SDK itself would not make."""
    path, body = parameters["path"], parameters["body"].encode("utf-8", "surrogateescape")
    headers = {"content-type": "application/json"}
    answer = client.post(path, cast_to=object, content=body, options={"headers": headers})
    return {"answer": answer}


try:
    told = {"create": create, "stream": stream, "models": models, "raw": raw}[act]()
except openai.APIStatusError as error:
    told = {"error": type(error).__name__, "status": error.status_code, "code": error.code, "message": error.message}
except openai.APIError as error:
    told = {"error": type(error).__name__, "message": error.message}
print(json.dumps(told))
