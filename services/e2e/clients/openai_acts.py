"""Does one thing after the other through the OpenAI SDK and prints what the SDK made of each, as one JSON list.

Argument: a list of acts as JSON. An act has `base` and `do`; more keys say how its client is set up and what it asks.
"""

import json
import os
import sys
import time

import openai


def client(act):
    key = act.get("key", os.environ["TEST_GATE_KEY"])
    patience = {"max_retries": act.get("repeats", 0), "timeout": act.get("seconds_max", 30)}
    return openai.OpenAI(base_url=act["base"], api_key=key, **patience)


def create(act):
    response = client(act).responses.create(model=act["model"], input="When does the tide turn?")
    return {"id": response.id, "text": response.output_text, "output": response.usage.output_tokens}


def stream(act):
    events, text = [], ""
    answer = client(act).responses.create(model=act["model"], input="When does the tide turn?", stream=True)
    for event in answer:
        events.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
            if act.get("leave"):
                answer.close()
                break
    return {"first": events[0], "last": events[-1], "text": text}


def models(act):
    return {"models": [model.id for model in client(act).models.list().data]}


def told(act):
    began = time.monotonic()
    try:
        result = {"create": create, "stream": stream, "models": models}[act["do"]](act)
    except openai.APIStatusError as error:
        result = {"error": type(error).__name__, "status": error.status_code, "code": error.code, "message": error.message}
    except Exception as error:
        result = {"error": type(error).__name__, "message": str(error)}
    return {**result, "seconds": time.monotonic() - began}


print(json.dumps([told(act) for act in json.loads(sys.argv[1])]))
