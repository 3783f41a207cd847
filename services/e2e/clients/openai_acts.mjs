// Does one thing after the other through the OpenAI SDK and prints what the SDK made of each, as one JSON list.
//
// Arguments: the directory that has the SDK, and a list of acts as JSON. An act has `base` and `do`; more keys say how
// its client is set up and what it asks.

import { createRequire } from "node:module";

const [packages, acts] = process.argv.slice(2);
const { default: OpenAI } = createRequire(`${packages}/`)("openai");

function client(act) {
  return new OpenAI({
    baseURL: act.base,
    apiKey: act.key ?? process.env.TEST_GATE_KEY,
    maxRetries: act.repeats ?? 0,
    timeout: (act.seconds_max ?? 30) * 1000,
  });
}

const input = "When does the tide turn?";

async function create(act) {
  const response = await client(act).responses.create({ model: act.model, input });
  return { id: response.id, text: response.output_text, output: response.usage.output_tokens };
}

async function stream(act) {
  // The SDK's own limit ends with the answer's head.
  const signal = act.seconds_max ? AbortSignal.timeout(act.seconds_max * 1000) : undefined;
  const answer = await client(act).responses.create({ model: act.model, input, stream: true }, { signal });
  const events = [];
  let text = "";
  for await (const event of answer) {
    events.push(event.type);
    if (event.type === "response.output_text.delta") {
      text += event.delta;
      if (act.leave) break;
    }
  }
  return { first: events[0], last: events.at(-1), text };
}

async function models(act) {
  const ids = [];
  for await (const model of client(act).models.list()) ids.push(model.id);
  return { models: ids };
}

async function told(act) {
  const began = performance.now();
  let result;
  try {
    result = await { create, stream, models }[act.do](act);
  } catch (error) {
    const { status, code, message } = error;
    result = { error: error.constructor.name, status, code, message };
  }
  return { ...result, seconds: (performance.now() - began) / 1000 };
}

const results = [];
for (const act of JSON.parse(acts)) results.push(await told(act));
console.log(JSON.stringify(results));
