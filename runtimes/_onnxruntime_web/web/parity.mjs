// @ts-check
/** Outputs against the reference's, by the formulas of runtime/edgekit/measure/parity.py, which has the reasons. */

import { PartSums } from "./parts.mjs";

const TIES = 1e-4;
const GONE = 0.5;
const FEWEST_OF_VALUE = 32;
const MANY_VALUES = 256;
const FLUSHED = 2 ** -126;
const HALF_STEPS = 2 * 2 ** -24;

/** @typedef {{data: any, dims: readonly number[], dtype: string}} Values  as of an .npz */
/** @typedef {{max_abs?: number | null, rel_l2?: number | null, sqnr_db?: number | null, part_db?: number | null,
 *   atol?: number | null}} Tolerance  as in manifest.json */
/** @typedef {{name: string, n: number, max_abs: number, rel_l2: number, sqnr_db: number, part: import("./parts.mjs").Part | null,
 *   differ: number | null, lost: [number, number] | null, failure: string | null}} OutputParity */

/** Adds up samples. */
export class ParityMeter {
  /** @type {Map<string, Sums>} */
  #sums = new Map();
  samples = 0;

  /** One sample, by the outputs' names. @param {Record<string, Values>} reference @param {Record<string, Values>} got */
  add(reference, got) {
    for (const name of new Set([...Object.keys(reference), ...Object.keys(got)])) {
      const sums = this.#sums.get(name) ?? new Sums();
      this.#sums.set(name, sums);
      if (!(name in got)) sums.fail(`output '${name}' is missing: the engine gave ${Object.keys(got).join(", ") || "nothing"}`);
      else if (!(name in reference)) sums.fail(`output '${name}' is not in the reference`);
      else sums.add(reference[name], got[name], (problem) => `output '${name}' ${problem} (sample ${this.samples})`);
    }
    this.samples += 1;
  }

  /** Everything added so far. @returns {OutputParity[]} */
  outputs() {
    return [...this.#sums].map(([name, sums]) => sums.result(name));
  }

  /** What no tolerance excuses. @returns {string[]} */
  failures() {
    return this.outputs().flatMap((item) => item.failure ?? []);
  }

  /** Every failure and every stated bound that does not hold. @param {Tolerance} tolerance @returns {string[]} */
  misses(tolerance) {
    return this.samples === 0 ? ["no samples were compared"] : this.outputs().flatMap((item) => missesOf(item, tolerance));
  }

  /** "SQNR 29.1 dB, worst part 8.1 dB", and what is said where all is equal, or integers differ. */
  told() {
    const outputs = this.outputs();
    const nothing = outputs.length > 0 && outputs.every((item) => item.n === 0 && item.failure === null);
    if (nothing) return "every output empty: nothing was compared";
    const largest = Math.max(0, ...outputs.map((item) => item.max_abs));
    if (largest === 0) return "all equal";
    const shares = outputs.flatMap((item) => (item.differ === null ? [] : [item.differ]));
    if (shares.length === outputs.length) return `${percent(Math.max(...shares))} of the integers differ`;
    const whole = Math.min(...outputs.map((item) => item.sqnr_db));
    const worst = Math.min(Infinity, ...outputs.map((item) => item.part?.sqnr_db ?? Infinity));
    if (Math.min(whole, worst) === Infinity) return `equal within ${short(largest, 2)}`;
    return `SQNR ${decibels(whole)}${worst < Infinity ? `, worst part ${decibels(worst)}` : ""}`;
  }
}

/** @param {OutputParity} item @param {Tolerance} tolerance @returns {string[]} */
function missesOf(item, tolerance) {
  if (item.failure !== null) return [item.failure];
  if (item.differ !== null) {
    const shares = allowedShares(tolerance);
    const most = shares.length ? Math.max(TIES, ...shares) : 1;
    const found = item.differ <= most ? [] : [`${placeOf(item)}, at most ${percent(most)} may`];
    if (item.lost !== null && item.lost[1] > GONE && most < 1) {
      found.push(`${percent(item.lost[1])} of what is ${item.lost[0]} in output '${item.name}' is gone`);
    }
    return found;
  }
  const found = [];
  for (const bound of /** @type {const} */ (["max_abs", "rel_l2", "sqnr_db", "atol"])) {
    const [limit, value] = [tolerance[bound], item[bound === "atol" ? "max_abs" : bound]]; // a self-test has no rtol
    if (limit == null) continue;
    const atLeast = bound === "sqnr_db";
    if (!(atLeast ? value >= limit : value <= limit)) {
      found.push(`${bound} ${short(value, 3)} ${atLeast ? "<" : ">"} ${short(limit, 6)} (output '${item.name}')`);
    }
  }
  if (item.part !== null && tolerance.part_db != null && !(item.part.sqnr_db >= tolerance.part_db)) {
    found.push(`${placeOf(item)}, needs ${short(tolerance.part_db, 6)} dB`);
  }
  return found;
}

/** @param {OutputParity} item */
function placeOf(item) {
  if (item.differ !== null) return `${percent(item.differ)} of the values of output '${item.name}' differ`;
  if (item.part === null) return `output '${item.name}': ${decibels(item.sqnr_db)}`;
  const place = item.part.index ? ` ${item.part.index}` : " against what varies";
  return `output '${item.name}'${place}: ${decibels(item.part.sqnr_db)} (whole: ${decibels(item.sqnr_db)})`;
}

/** What the stated bounds allow to differ, each as a share. @param {Tolerance} tolerance @returns {number[]} */
function allowedShares(tolerance) {
  const shares = [];
  const { sqnr_db: db, rel_l2: ratio, max_abs: largest } = tolerance;
  if (db != null) shares.push(Math.max(10 ** (-db / 10), Math.min(10 ** (-db / 20), 0.01)));
  if (ratio != null) shares.push(ratio ** 2);
  if (largest != null) shares.push(largest < 1 ? 0 : 1);
  return shares;
}

/** The running sums of one output. */
class Sums {
  #signal = 0;
  #noise = 0;
  #largest = 0;
  #n = 0;
  #exact = 0; // integers, booleans and strings, of `n`
  #parts = new PartSums();
  #values = new ValueCounts();
  /** @type {string | null} */
  #failure = null;

  /** @param {string} why */
  fail(why) {
    this.#failure ??= why;
  }

  /** @param {Values} want @param {Values} got @param {(problem: string) => string} tell */
  add(want, got, tell) {
    if (want.dtype !== got.dtype || want.dims.join() !== got.dims.join()) {
      this.fail(tell(`must be ${want.dtype} ${want.dims.join("x")}, got ${got.dtype} ${got.dims.join("x")}`));
      return;
    }
    this.#n += want.data.length;
    if (!want.dtype.startsWith("float")) {
      let differ = 0;
      for (let at = 0; at < want.data.length; at += 1) differ += Number(want.data[at] !== got.data[at]);
      this.#exact += want.data.length;
      if (want.dtype !== "string") this.#values.add(want.data, got.data);
      this.#signal += want.data.length;
      this.#noise += differ;
      this.#largest = Math.max(this.#largest, Number(differ > 0));
      return;
    }
    const [reference, answer] = [numbers(want), numbers(got)];
    const error = new Float64Array(reference.length);
    const counts = new Uint8Array(reference.length);
    const least = want.dtype === "float16" ? HALF_STEPS : want.dtype === "float64" ? 0 : FLUSHED;
    let [unequal, first] = [0, -1];
    for (let at = 0; at < reference.length; at += 1) {
      if (Number.isFinite(reference[at]) && Number.isFinite(answer[at])) {
        const difference = answer[at] - reference[at];
        counts[at] = 1;
        this.#largest = Math.max(this.#largest, Math.abs(difference));
        error[at] = Math.abs(difference) <= least ? 0 : difference;
        this.#signal += reference[at] ** 2;
        this.#noise += error[at] ** 2;
      } else if (!Object.is(reference[at], answer[at])) {
        if (unequal === 0) first = at;
        unequal += 1;
      }
    }
    if (unequal) {
      const where = `in ${unequal} of ${reference.length} values`;
      this.fail(tell(`is ${answer[first]} where the reference is ${reference[first]}, ${where}`));
    }
    this.#parts.add([...want.dims], reference, answer, error, counts);
  }

  /** @param {string} name @returns {OutputParity} */
  result(name) {
    if (this.#failure !== null) {
      const worst = { max_abs: Infinity, rel_l2: Infinity, sqnr_db: -Infinity };
      return { name, n: this.#n, ...worst, part: null, differ: null, lost: null, failure: this.#failure };
    }
    const part = this.#exact === 0 ? this.#parts.worst() : null;
    const differ = this.#exact && this.#exact === this.#n ? this.#noise / this.#exact : null;
    const noise = (this.#exact === 0 && this.#noise ? this.#parts.wholeNoise() : null) ?? this.#noise;
    let [rel_l2, sqnr_db] = [0, Infinity];
    if (noise !== 0) {
      rel_l2 = this.#signal === 0 ? Infinity : Math.sqrt(noise) / Math.sqrt(this.#signal);
      sqnr_db = 10 * (Math.log10(this.#signal) - Math.log10(noise));
    }
    const lost = differ === null ? null : this.#values.worst();
    return { name, n: this.#n, max_abs: this.#largest, rel_l2, sqnr_db, part, differ, lost, failure: null };
  }
}

/** Of class maps and masks, which value is gone, however rare: runtime/edgekit/measure/values.py. */
class ValueCounts {
  /** value → elements, of these how many differ. @type {Map<number, [number, number]> | null} */
  #counts = new Map();

  /** @param {ArrayLike<number | bigint>} want @param {ArrayLike<number | bigint>} got */
  add(want, got) {
    if (this.#counts === null) return;
    for (let at = 0; at < want.length; at += 1) {
      const value = Number(want[at]);
      const known = this.#counts.get(value) ?? [0, 0];
      known[0] += 1;
      known[1] += Number(want[at] !== got[at]);
      if (known[0] === 1) this.#counts.set(value, known);
      if (this.#counts.size > MANY_VALUES) {
        this.#counts = null;
        return;
      }
    }
  }

  /** @returns {[number, number] | null} the value that is lost most, and its share that differs */
  worst() {
    /** @type {[number, number] | null} */
    let found = null;
    for (const [value, [n, lost]] of this.#counts ?? []) {
      const share = lost / n;
      const more = found === null || share > found[1] || (share === found[1] && value > found[0]);
      if (n >= FEWEST_OF_VALUE && more) found = [value, share];
    }
    return found;
  }
}

/** As float64; float16 as well where JavaScript has no array for it. @param {Values} values @returns {Float64Array} */
function numbers({ data, dtype }) {
  if (dtype !== "float16" || !(data instanceof Uint16Array)) return Float64Array.from(data);
  return Float64Array.from(data, (bits) => {
    const [exponent, digits] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent === 31 ? (digits ? NaN : Infinity) : exponent ? (1 + digits / 1024) * 2 ** (exponent - 15) : digits * 2 ** -24;
    return bits & 0x8000 ? -size : size;
  });
}

/** As Python's `:.{digits}g`. @param {number} value @param {number} digits */
function short(value, digits) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  const trimmed = (/** @type {string} */ text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (power >= -4 && power < digits) return trimmed(value.toFixed(digits - 1 - power));
  return `${trimmed(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

/** @param {number} share */
function percent(share) {
  return `${short(100 * share, 3)} %`;
}

/** @param {number} value */
function decibels(value) {
  return Number.isFinite(value) ? `${value.toFixed(1)} dB` : `${short(value, 3)} dB`;
}
