"""Runs a thread of two turns through the Codex SDK, on the binary that is given, and prints what the SDK understood.

Arguments: the binary, the first prompt, the second prompt.
"""

import json
import sys

from openai_codex import Codex, CodexConfig

binary, *prompts = sys.argv[1:]


def told(result):
    return {
        "turn": result.id,
        "status": result.status.value,
        "text": result.final_response,
        "output_tokens": result.usage.last.output_tokens if result.usage else None,
    }


with Codex(CodexConfig(codex_bin=binary)) as codex:
    thread = codex.thread_start()
    turns = [told(thread.run(prompt)) for prompt in prompts]
    history = thread.read(include_turns=True).thread
    listed = codex.thread_list().data
    print(
        json.dumps(
            {
                "server": codex.metadata.serverInfo.name,
                "thread": thread.id,
                "turns": turns,
                "history": [turn.id for turn in history.turns],
                "listed": [thread.id for thread in listed],
                "models": [model.id for model in codex.models().data],
            }
        )
    )
