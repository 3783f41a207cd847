"""Calls the gateway with gRPC's own Python library and prints what it saw, as one JSON object.

Arguments: host and port, the directory of the .proto files, a model, a denied model. The provider's replies come in the
order of the calls below.
"""

import json
import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

target, protos, model, denied = sys.argv[1:]
sys.path.insert(0, protos)
messages, services = grpc.protos_and_services("tidegate/gateway/v1/model_gateway.proto")
failures = grpc.protos("tidegate/gateway/v1/failure.proto")

key = [("authorization", "Bearer " + os.environ["TEST_GATE_KEY"])]
channel = grpc.insecure_channel(target)
gateway = services.ModelGatewayServiceStub(channel)


def request(model, text="When does the tide turn?"):
    body = json.dumps({"model": model, "stream": True, "input": text}).encode()
    chunk = 512 * 1024
    pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    yield messages.RespondRequest(start=messages.ResponseStart())
    for number, piece in enumerate(pieces, 1):
        last = number == len(pieces)
        yield messages.RespondRequest(body_chunk=messages.BodyChunk(data=piece, last=last))


def failure(error):
    """The status, and what `grpc-status-details-bin` says of it."""
    told = {"code": error.code().name}
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        failure = failures.Failure()
        if detail.Unpack(failure):
            fault = failures.Fault.Name(failure.fault)
            told |= {"reason": failure.reason, "fault": fault, "message": failure.message}
            told |= {"upstream": failure.upstream.status, "delay": failure.retry_delay.seconds}
    return told


def respond(body, **how):
    seen = {"events": 0, "text": ""}
    try:
        for response in gateway.Respond(body, **{"metadata": key, "timeout": 30, **how}):
            kind = response.WhichOneof("message")
            if kind == "head":
                seen |= {"provider": response.head.provider, "status": response.head.status}
            if kind == "event":
                seen["events"] += 1
                if response.event.type == "response.output_text.delta":
                    seen["text"] += json.loads(response.event.data)["delta"]
            if kind == "completed":
                seen |= {"id": response.completed.response_id, "output": response.completed.usage.output_tokens}
            if kind == "failed":
                seen["failed"] = response.failed.failure.reason
    except grpc.RpcError as error:
        seen |= failure(error)
    return seen


def models(**how):
    try:
        listed = gateway.ListModels(messages.ListModelsRequest(), timeout=30, **how)
        return [model.slug for model in listed.models]
    except grpc.RpcError as error:
        return failure(error)


health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
told = {
    "health": health_pb2.HealthCheckResponse.ServingStatus.Name(health.status),
    "stranger": respond(request(model), metadata=[]),
    "unknown_key": respond(request(model), metadata=[("authorization", "Bearer tg_0123456789ab_0000")]),
    "unknown_model": respond(request("nobody-s")),
    "denied": respond(request(denied)),
    "models": models(metadata=key),
    "stranger_models": models(),
    "plain": respond(request(model)),
    "compressed": respond(request(model, "high water, low water, " * 50_000), compression=grpc.Compression.Gzip),
    "limited": respond(request(model)),
    "late": respond(request(model), timeout=2),
}
print(json.dumps(told))
