"""What a program does with the Codex SDK in a day, on the binary that is given: streaming, steering, structured output, images
and mentions, compaction, a fork, the archive, ten threads at once. Prints what the SDK understood.

Arguments: the binary, an image.
"""

import asyncio
import json
import sys

from openai_codex import AsyncCodex, Codex, CodexConfig, LocalImageInput, MentionInput, TextInput

binary, image = sys.argv[1:]
SCHEMA = {"type": "object", "properties": {"tide": {"type": "string"}}, "required": ["tide"], "additionalProperties": False}
THREADS = 10


def streamed(turn, at_first=None):
    """The methods of a turn's notifications and the text of its deltas; `at_first` is done once, when text comes."""
    methods, text = [], ""
    for event in turn.stream():
        methods.append(event.method)
        if event.method == "item/agentMessage/delta":
            text += event.payload.delta
            if at_first:
                at_first()
                at_first = None
    return {"methods": methods, "text": text}


def day(codex):
    thread = codex.thread_start()
    told = {"thread": thread.id, "streamed": streamed(thread.turn("Say it slowly."))}
    steered = thread.turn("hold")
    told["steered"] = streamed(steered, lambda: steered.steer("And the moon?"))
    stopped = thread.turn("hold")
    told["stopped"] = streamed(stopped, stopped.interrupt)
    told["structured"] = json.loads(thread.run("structured", output_schema=SCHEMA).final_response)
    seen = [TextInput("look at @chart"), LocalImageInput(image), MentionInput(name="chart", path="app://chart")]
    told["seen"] = thread.run(seen).final_response
    fork = codex.thread_fork(thread.id)
    told["forked"] = fork.run("And in the fork?").final_response
    told["forked_turns"] = len(fork.read(include_turns=True).thread.turns)
    thread.compact()
    told["after"] = thread.run("And after that?").final_response
    codex.thread_archive(fork.id)
    told["listed"] = [entry.id for entry in codex.thread_list().data]
    told["archived"] = [entry.id for entry in codex.thread_list(archived=True).data]
    codex.thread_unarchive(fork.id)
    told["back"] = sorted(entry.id for entry in codex.thread_list().data)
    told["fork"] = fork.id
    return told


async def at_once():
    async with AsyncCodex(CodexConfig(codex_bin=binary)) as codex:

        async def one(number):
            thread = await codex.thread_start()
            results = [await thread.run(f"{number}.{turn}") for turn in range(2)]
            return thread.id, [result.status.value for result in results]

        done = await asyncio.gather(*(one(number) for number in range(THREADS)))
        return {"ids": len({thread for thread, _ in done}), "statuses": [status for _, each in done for status in each]}


with Codex(CodexConfig(codex_bin=binary)) as codex:
    told = day(codex)
told["at_once"] = asyncio.run(at_once())
print(json.dumps(told))
