"""A thread over gRPC: one turn, its answer as it comes, a connection that is lost in the middle, and going on from there.

    pip install grpcio grpcio-tools grpcio-status
    python session.py 127.0.0.1:4500 path/to/proto "What is a tide gate?"

Against a service that asks who calls, set TIDEGATE_KEY to a key of its keys file or to a signed token. Against one with TLS,
set TIDEGATE_CA to the file of the authority that its certificate is of.
"""

import os
import sys

import grpc
from grpc_status import rpc_status

address, protos, prompt = sys.argv[1:]
# The stubs are made from the contract's own files.
sys.path.insert(0, protos)
messages, services = grpc.protos_and_services("tidegate/agent/v1/session.proto")
failures = grpc.protos("tidegate/gateway/v1/failure.proto")

# After so many events the connection is cut, to show what happens then.
CUT_AFTER = 4

key = os.environ.get("TIDEGATE_KEY")
metadata = [("authorization", f"Bearer {key}")] if key else []


authority = os.environ.get("TIDEGATE_CA")


def connect():
    if authority:
        with open(authority, "rb") as file:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()))
    else:
        channel = grpc.insecure_channel(address)
    return channel, services.SessionServiceStub(channel)


def failure(error):
    """Why a call failed, as the status details say, and where a subscription can go on."""
    reason, retryable, after = error.details(), error.code() == grpc.StatusCode.UNAVAILABLE, None
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        told, end = failures.Failure(), messages.SubscriptionEnd()
        if detail.Unpack(told):
            reason, retryable = f"{told.message} ({told.reason})", told.retryable
        elif detail.Unpack(end):
            after = end.after_sequence
    return reason, retryable, after


def show(event):
    """Prints what is new; tells whether the turn is over."""
    kind = event.WhichOneof("event")
    if kind == "text_delta" and not event.text_delta.reasoning:
        print(event.text_delta.text, end="", flush=True)
    elif kind == "item_completed" and event.item_completed.item.HasField("agent_message"):
        # Deltas are live only: what was said while nobody listened is in the item.
        print(f"\n[{event.sequence}] the answer: {event.item_completed.item.agent_message.text}")
    elif kind == "model_retry":
        print(f"\n{event.model_retry.message}")
    elif kind == "turn_ended":
        print(f"[{event.sequence}] {messages.TurnOutcome.Name(event.turn_ended.outcome)}")
        return True
    return False


def follow(thread, last):
    """Follows the thread to the end of its turn, over as many connections as that takes; tells the last number."""
    cut = False
    while True:
        channel, sessions = connect()
        on_purpose = False
        request = messages.SubscribeRequest(thread_id=thread, after_sequence=last)
        try:
            for count, event in enumerate(sessions.Subscribe(request, metadata=metadata), 1):
                # Events that are stored have numbers; the last one is where to go on.
                last = event.sequence or last
                if show(event):
                    return last
                if not cut and count == CUT_AFTER:
                    cut = on_purpose = True
                    channel.close()
            sys.exit("the thread was closed")
        except ValueError:
            # gRPC's way to say that the channel was closed under a stream that waits.
            print(f"\n-- the connection is lost; going on after {last}")
        except grpc.RpcError as error:
            reason, retryable, after = failure(error)
            if not on_purpose and not retryable:
                sys.exit(f"cannot follow the thread: {reason}")
            last = last if after is None else after
            print(f"\n-- the connection is lost; going on after {last}")
        finally:
            channel.close()


def main():
    channel, sessions = connect()
    try:
        created = sessions.CreateThread(messages.CreateThreadRequest(), metadata=metadata, timeout=30)
        thread = created.thread.id
        # The turn runs on in the service, whoever listens.
        start = messages.StartTurnRequest(thread_id=thread, text=prompt, client_message_id="example-1")
        turn = sessions.StartTurn(start, metadata=metadata, timeout=30).turn_id
    except grpc.RpcError as error:
        sys.exit(f"cannot start: {failure(error)[0]}")
    finally:
        channel.close()
    print(f"thread {thread}, turn {turn}")
    last = follow(thread, 0)
    print(f"all {last} entries of the thread's log are told")


main()
