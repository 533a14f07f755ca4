// What the AI SDK makes of our /v1: run by check.py, which gives address, notebooks, question and the expected answer.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const [baseURL, names, prompt, expected] = process.argv.slice(2);
const notebooks = JSON.parse(names);
const provider = createOpenAICompatible({ name: "sourcebook", baseURL, apiKey: "none", includeUsage: true });

function check(fact, holds, seen) {
  console.log(`${holds ? "ok  " : "FAIL"} AI SDK: ${fact}`);
  if (!holds) {
    console.error("seen:", seen);
    process.exit(1);
  }
}

const whole = await generateText({ model: provider(notebooks.cites), prompt, maxRetries: 0 });
check("generateText gives the answer", whole.text === expected, whole.text);
check("generateText gives the reason to stop", whole.finishReason === "stop", whole.finishReason);
check("generateText gives usage", whole.usage.totalTokens > 0, whole.usage);

const stream = streamText({ model: provider(notebooks.cites), prompt, maxRetries: 0 });
let text = "";
for await (const piece of stream.textStream) text += piece;
check("streamText gives the answer", text === expected, text);
check("streamText gives usage", (await stream.usage).totalTokens > 0, await stream.usage);

const kinds = [];
const thinking = streamText({ model: provider(notebooks.default), prompt, maxRetries: 0 });
for await (const part of thinking.fullStream) if (part.type.endsWith("-delta")) kinds.push(part.type);
check("reasoning comes before text", kinds[0] === "reasoning-delta" && kinds.at(-1) === "text-delta", kinds);
check("reasoning is kept apart", (await thinking.reasoningText).length > 0, await thinking.reasoningText);

let failed;
try {
  await generateText({ model: provider(notebooks.broken), prompt, maxRetries: 0 });
} catch (error) {
  failed = error;
}
check("an error has its status and our words", failed?.statusCode === 502 && failed.message.length > 0, failed);

let broken = false;
const breaking = streamText({ model: provider(notebooks.broken), prompt, maxRetries: 0, onError: () => { broken = true; } });
for await (const part of breaking.fullStream) if (part.type === "error") broken = true;
check("an error in a stream is told", broken, broken);
