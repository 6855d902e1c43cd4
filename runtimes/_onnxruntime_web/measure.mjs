// @ts-check
/**
 * The page's end of `session.py`: opens the model through the module that apps use, runs it, times it.
 *
 * Each function of `globalThis.edgekit` answers `{ok: …}`, or `{error: {code, what, fix}}`. Arrays travel as files of
 * the page's server.
 */

import { ModelError, environment, load } from "./web/edgekit.mjs";
import { readNpz } from "./web/npz.mjs";

/** WebAssembly's threads are workers: what was started is what runs, whatever the settings say. */
let workers = 0;
globalThis.Worker = class extends globalThis.Worker {
  /** @param {any[]} values */
  constructor(...values) {
    super(.../** @type {[any]} */ (values));
    workers += 1;
  }
};

/** @type {import("./web/edgekit.mjs").Model | null} */
let model = null;
/** Inputs ready to run, by the number that Python knows them by. @type {Map<number, Record<string, any>>} */
const bound = new Map();
let next = 0;

/** @param {Record<string, any>} options  of `load` */
async function open(options) {
  model = await load({ ...options, verify: false });
  return {
    inputs: model.inputs,
    outputs: model.outputs,
    inForce: { ...model.inForce, threads: workers + 1, clock: clock() },
  };
}

/** What the engine's log says while it opens the model and runs it once, with its profile of that run; and why it
 * refuses to open it, if it does. @param {Record<string, any>} options @param {string} path  of inputs */
async function explain(options, path) {
  let refused = null;
  let failed = null;
  const lines = await listening(async () => {
    let twin;
    try {
      twin = await load({ ...options, verify: false, session: { logSeverityLevel: 0, enableProfiling: true } });
    } catch (error) {
      refused = told(error);
      return;
    }
    try {
      await twin.run(twin.prepare(readNpz(await (await fetch(path)).arrayBuffer())));
    } catch (error) {
      failed = told(error);
    }
    await twin.endProfiling();
  });
  const start = lines.lastIndexOf("[");
  return { lines: start < 0 ? lines : lines.slice(0, start), profile: start < 0 ? [] : lines.slice(start), refused, failed };
}

/** The engine's profile of some runs, as it prints it: JSON. @param {Record<string, any>} options @param {string} path
 * @param {number} runs */
async function profile(options, path, runs) {
  const lines = await listening(async () => {
    const twin = await load({ ...options, verify: false, session: { enableProfiling: true } });
    const ready = twin.prepare(readNpz(await (await fetch(path)).arrayBuffer()));
    for (let run = 0; run < runs; run += 1) await twin.run(ready);
    await twin.endProfiling();
  });
  return lines.slice(lines.lastIndexOf("["));
}

/** What is written to the console while `work` goes on; the engine must start in it, or it keeps the old one. @param {() => Promise<unknown>} work */
async function listening(work) {
  /** @type {string[]} */
  const lines = [];
  const names = /** @type {const} */ (["log", "info", "warn", "error", "debug"]);
  const kept = names.map((name) => console[name]);
  for (const name of names) console[name] = (/** @type {unknown[]} */ ...words) => lines.push(words.join(" "));
  try {
    await work();
  } finally {
    names.forEach((name, index) => (console[name] = kept[index]));
  }
  return lines;
}

/** @param {string} path  of an .npz @returns {Promise<number>} */
async function bind(path) {
  const arrays = readNpz(await (await fetch(path)).arrayBuffer());
  bound.set(next, opened().prepare(arrays));
  return next++;
}

/** @param {number} number */
async function run(number) {
  await opened().run(feeds(number));
}

/** @param {string} from  an .npz @param {string} to  where the outputs go */
async function once(from, to) {
  const outputs = await opened().run(opened().prepare(readNpz(await (await fetch(from)).arrayBuffer())));
  const told = [];
  /** @type {BlobPart[]} */
  const parts = [];
  for (const [name, tensor] of Object.entries(outputs)) {
    const { type, dims, data } = tensor;
    if (type === "string") told.push({ name, type, dims, strings: data });
    else {
      told.push({ name, type, dims, bytes: data.byteLength });
      parts.push(data);
    }
  }
  await send(to, [`${JSON.stringify(told)}\n`, ...parts]);
}

/** Run the feeds in turn, untimed, for so long and each at least once. @param {number[]} numbers @param {number} seconds */
async function warmUp(numbers, seconds) {
  const calls = numbers.map(feeds);
  const current = opened();
  const end = performance.now() + 1e3 * seconds;
  let runs = 0;
  while (runs < calls.length || performance.now() < end) {
    await current.run(calls[runs % calls.length]);
    runs += 1;
  }
  return runs;
}

/** Time runs back to back; see measure.latency.Sampler.block. @param {number[]} numbers @param {number} first
 * @param {number} seconds @param {number} minRuns @param {number} maxRuns @param {string} path  where the times go */
async function block(numbers, first, seconds, minRuns, maxRuns, path) {
  const calls = numbers.map(feeds);
  const current = opened();
  return times(calls.length, first, seconds, minRuns, maxRuns, path, (index) => current.run(calls[index]));
}

/** The same loop around a call that does nothing: what timing costs. @param {number} seconds @param {number} maxRuns
 * @param {string} path */
async function harness(seconds, maxRuns, path) {
  return times(1, 0, seconds, 1, maxRuns, path, async () => null);
}

/** @param {number} count @param {number} first @param {number} seconds @param {number} minRuns @param {number} maxRuns
 * @param {string} path @param {(index: number) => Promise<unknown>} call */
async function times(count, first, seconds, minRuns, maxRuns, path, call) {
  const taken = [];
  let index = first;
  const end = performance.now() + 1e3 * seconds;
  for (let run = 1; run <= maxRuns; run += 1) {
    const start = performance.now();
    await call(index);
    const stop = performance.now();
    index = index + 1 < count ? index + 1 : 0;
    taken.push(stop - start);
    if (stop >= end && run >= minRuns) break;
  }
  await send(path, [Float64Array.from(taken, (milliseconds) => milliseconds / 1e3)]);
  return index;
}

/** Run at given moments; see measure.latency.Sampler.serve. @param {number[]} numbers @param {number} first
 * @param {string} arrivals  .npz with `at`, seconds from the start @param {number} limit  seconds @param {string} path */
async function serve(numbers, first, arrivals, limit, path) {
  const calls = numbers.map(feeds);
  const current = opened();
  const at = readNpz(await (await fetch(arrivals)).arrayBuffer()).at.data;
  const taken = [];
  let index = first;
  const start = performance.now();
  for (const offset of at) {
    const arrival = start + 1e3 * offset;
    while (arrival - performance.now() > 8) await new Promise((resolve) => setTimeout(resolve, arrival - performance.now() - 6));
    while (performance.now() < arrival);
    await current.run(calls[index]);
    index = index + 1 < calls.length ? index + 1 : 0;
    const done = performance.now();
    taken.push((done - arrival) / 1e3);
    if (done > start + 1e3 * limit) break;
  }
  await send(path, [Float64Array.from(taken)]);
  return index;
}

/** The smallest step that the page's clock makes, in seconds: 5 µs where the page is isolated, else 100 µs. */
function clock() {
  let least = Infinity;
  for (let step = 0; step < 50; step += 1) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    least = Math.min(least, now - start);
  }
  return least / 1e3;
}

/** @param {string} path @param {BlobPart[]} parts */
async function send(path, parts) {
  const answer = await fetch(path, { method: "POST", body: new Blob(parts) });
  if (!answer.ok) throw new Error(`the server refuses ${path}: ${answer.status}`);
}

function opened() {
  if (model === null) throw new ModelError("engine", "no model is open");
  return model;
}

/** @param {number} number */
function feeds(number) {
  const found = bound.get(number);
  if (found === undefined) throw new ModelError("input", `no inputs of the number ${number} are bound`);
  return found;
}

/** @param {unknown} error */
function told(error) {
  if (error instanceof ModelError) return { code: error.code, what: error.what, fix: error.fix };
  return { code: "engine", what: error instanceof Error ? `${error.name}: ${error.message}` : String(error), fix: "" };
}

const functions = { environment, open, explain, profile, bind, run, once, warmUp, block, harness, serve };

/** @type {any} */ (globalThis).edgekit = Object.fromEntries(
  Object.entries(functions).map(([name, call]) => [
    name,
    async (/** @type {any[]} */ ...values) => {
      try {
        return { ok: (await /** @type {any} */ (call)(...values)) ?? null };
      } catch (error) {
        return { error: told(error) };
      }
    },
  ]),
);
