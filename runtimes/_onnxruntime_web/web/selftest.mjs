// @ts-check
/** The bundle's self-test in the page: every golden input, and the golden stream, within the bounds of manifest.json. */

import { ParityMeter } from "./parity.mjs";

/** @typedef {import("./parity.mjs").Values} Values */

/**
 * @param {import("./edgekit.mjs").Model} model
 * @param {(name: string) => Promise<Record<string, any>>} fetchNpz  the arrays of a file in golden/
 * @returns {Promise<{passed: boolean, text: string}>}
 */
export async function selfTest(model, fetchNpz) {
  const { golden, parity } = model.manifest;
  const fetchPair = (/** @type {string} */ name) => Promise.all([fetchNpz(`${name}.inputs`), fetchNpz(`${name}.outputs`)]);
  const meter = new ParityMeter();
  for (let index = 0; index < golden.samples; index += 1) {
    const [inputs, expected] = await fetchPair(`${index}`);
    meter.add(expected, valuesOf(model, inputs, await model.run(inputs)));
  }
  const misses = meter.misses(golden.tolerance);
  let text = `Self-test passed: ${golden.samples} golden inputs, ${meter.told()} to ${parity.reference ?? "the reference"}`;
  if (golden.steps) {
    const streamed = new ParityMeter();
    const stream = model.stream();
    for (let step = 0; step < golden.steps; step += 1) {
      const [frame, expected] = await fetchPair(`stream/${step}`);
      streamed.add(expected, valuesOf(model, frame, await stream.run(frame)));
    }
    misses.push(...streamed.misses(golden.steps_tolerance).map((miss) => `a stream of ${golden.steps} steps: ${miss}`));
    text += `; a stream of ${golden.steps} steps: ${streamed.told()}`;
  }
  return { passed: misses.length === 0, text: misses.length ? `Self-test FAILED: ${misses.join("; ")}` : `${text}.` };
}

/**
 * The engine's tensors as arrays of an .npz are, with 0 wherever nobody reads them (runtime/edgekit/measure/ignore.py).
 *
 * @param {import("./edgekit.mjs").Model} model
 * @param {Record<string, any>} inputs
 * @param {Record<string, any>} outputs
 * @returns {Record<string, Values>}
 */
export function valuesOf(model, inputs, outputs) {
  /** @type {Record<string, Values>} */
  const found = {};
  for (const [name, { data, dims, type }] of Object.entries(outputs)) found[name] = { data, dims, dtype: type };
  for (const rule of model.manifest.ignore ?? []) {
    const mask = inputs[rule.input];
    const unread = Array.from(mask.data, (value) => Number(value) === rule.value);
    for (const name of rule.outputs) {
      const values = found[name];
      if (values === undefined || mask.dims.some((/** @type {number} */ dim, /** @type {number} */ axis) => values.dims[axis] !== dim)) continue;
      const data = values.data.slice();
      const each = data.length / unread.length;
      unread.forEach((is, index) => is && data.fill(data instanceof BigInt64Array ? 0n : 0, index * each, (index + 1) * each));
      found[name] = { ...values, data };
    }
  }
  return found;
}
