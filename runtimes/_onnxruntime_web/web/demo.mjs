// @ts-check
/** The demo page: the bundle's self-test, a golden input to look at, and what this browser can do. */

import { ModelError, environment, load } from "./edgekit.mjs";
import { readNpz } from "./npz.mjs";
import { ParityMeter } from "./parity.mjs";
import { selfTest, valuesOf } from "./selftest.mjs";

const SHOWN = 8; // elements of an output
const TIMED_MS = 500;
const MAX_RUNS = 300;

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/** @type {import("./edgekit.mjs").Model | null} */
let model = null;
/** Of the self-test. @type {{passed: boolean, text: string} | null} */
let verdict = null;

/** @param {string} text @param {"" | "done" | "failed"} [state] */
function say(text, state = "") {
  element("status").textContent = text;
  element("status").dataset.state = state;
}

function sayVerdict() {
  if (verdict !== null) say(verdict.text, verdict.passed ? "done" : "failed");
}

/** @param {string} id @param {[string, string][]} rows */
function fill(id, rows) {
  const body = element(id).querySelector("tbody");
  body.replaceChildren(
    ...rows.map(([name, value]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      const cell = document.createElement("td");
      head.scope = "row";
      head.textContent = name;
      cell.textContent = value;
      row.append(head, cell);
      return row;
    }),
  );
}

/** @param {Awaited<ReturnType<typeof environment>>} here @param {Record<string, any> | null} inForce */
function tellFacts(here, inForce) {
  const software = here.webgpu?.software ? ", played by the CPU" : "";
  fill("facts", [
    ["backend", inForce ? `${inForce.backend}, onnxruntime-web ${inForce.version ?? ""}` : "not started"],
    ["threads", inForce ? `${inForce.threads} of ${here.cores} cores` : `none yet, of ${here.cores} cores`],
    ["cross-origin isolated", here.noThreads ? `no: ${here.noThreads}` : "yes: threads can be had"],
    ["WebGPU", here.webgpu ? `${here.webgpu.name}${software}; fp16: ${here.webgpu.f16 ? "yes" : "no"}` : `no: ${here.noWebgpu}`],
    ["SIMD", "yes: the engine's WebAssembly needs it"],
  ]);
}

/** @param {import("./edgekit.mjs").LoadOptions} options */
async function start(options) {
  element("one-thread").hidden = true;
  const here = await environment();
  tellFacts(here, null);
  try {
    const { name, precision, target, golden } = await (await fetch(new URL("../manifest.json", import.meta.url))).json();
    element("name").textContent = document.title = name;
    element("about").textContent = `${precision}, for target ${target}`;
    const began = performance.now();
    model = await load(options);
    tellFacts(here, model.inForce);
    const inputs = Array.from({ length: golden.samples }, (_, index) => new Option(`golden input ${index}`, String(index)));
    element("golden").replaceChildren(...inputs);
    element("run").disabled = golden.samples === 0;
    element("file").disabled = false;
    say(`The model was open after ${milliseconds(performance.now() - began)}.`);
    if (golden.samples > 0) {
      await runGolden(0);
      verdict = await selfTest(model, fetchNpz);
      sayVerdict();
    }
  } catch (error) {
    failed(error);
  }
}

/** @param {number} index */
async function runGolden(index) {
  const [inputs, expected] = await Promise.all([fetchNpz(`${index}.inputs`), fetchNpz(`${index}.outputs`)]);
  await run(inputs, expected, `golden input ${index}`);
}

/** @param {Record<string, import("./npz.mjs").NpzArray>} inputs
 * @param {Record<string, import("./npz.mjs").NpzArray> | null} expected @param {string} what */
async function run(inputs, expected, what) {
  if (model === null) return;
  const feeds = model.prepare(inputs);
  const first = performance.now();
  const outputs = await model.run(feeds);
  const times = [performance.now() - first];
  const end = performance.now() + TIMED_MS;
  while (performance.now() < end && times.length < MAX_RUNS) {
    const before = performance.now();
    await model.run(feeds);
    times.push(performance.now() - before);
    if (times.length % 20 === 0) await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
  }
  const [once, ...others] = times;
  const sorted = others.sort((a, b) => a - b);
  const median = sorted.length ? `${milliseconds(sorted[Math.floor(sorted.length / 2)])} (median of ${sorted.length} runs)` : "—";
  /** @type {[string, string][]} */
  const rows = [["input", what], ["first run", milliseconds(once)], ["latency", median]];
  if (expected !== null) {
    const meter = new ParityMeter();
    meter.add(expected, valuesOf(model, inputs, outputs));
    rows.push([`to ${model.manifest.parity.reference ?? "the reference"}`, meter.failures()[0] ?? meter.told()]);
  }
  fill("result", rows);
  fill("outputs", Object.entries(outputs).map(([name, tensor]) => [`${name} ${tensor.type} ${tensor.dims.join("x")}`, head(tensor.data)]));
}

/** @param {ArrayLike<any>} data */
function head(data) {
  const shown = Array.from({ length: Math.min(SHOWN, data.length) }, (_, index) => {
    const value = data[index];
    return typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(5) : String(value);
  });
  return data.length > SHOWN ? `${shown.join("  ")}  … (${data.length})` : shown.join("  ");
}

/** @param {number} value */
function milliseconds(value) {
  return `${value.toPrecision(3)} ms`;
}

/** @param {string} name  of a file in golden/, without its ending */
async function fetchNpz(name) {
  const answer = await fetch(new URL(`../golden/${name}.npz`, import.meta.url));
  if (!answer.ok) throw new Error(`cannot fetch golden/${name}.npz: ${answer.status}`);
  return readNpz(await answer.arrayBuffer());
}

/** @param {unknown} error */
function failed(error) {
  say(error instanceof Error ? error.message : String(error), "failed");
  if (error instanceof ModelError && error.code === "isolation") element("one-thread").hidden = false;
}

element("one-thread").addEventListener("click", () => start({ threads: 1 }));
element("run").addEventListener("click", () => runGolden(Number(element("golden").value)).then(sayVerdict, failed));
element("file").addEventListener("change", async () => {
  const [file] = element("file").files;
  if (!file) return;
  try {
    await run(readNpz(await file.arrayBuffer()), null, file.name);
    say("Done.", "done");
  } catch (error) {
    failed(error);
  }
});

await start({});
