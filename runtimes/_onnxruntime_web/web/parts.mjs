// @ts-check
/** The worst part of an output: runtime/edgekit/measure/parts.py and resolution.py, line by line, where the reasons are. */

const SIBLINGS = 30;
const STRAGGLERS = 32;
const KAPPA = 0.1;
const PROBABILITY_STEP = 1 / 255;
const LOG_SLACK = 0.01;
const ROUNDING = 8 * 2 ** -24;
const PRIOR = 16;
const FEWEST = 8;
const FEW = 8;
const LARGEST_AXIS = 2 ** 17;
const TOGETHER_DB = 6;
const GRID = 2 ** -25;
const SMALL = 0.25;
const RESOLUTION = 4 * 2 ** -23;

/** @typedef {{index: string, sqnr_db: number}} Part */

/** Adds up one output's samples by their parts. */
export class PartSums {
  /** @type {Map<number, Axis> | null} */
  #axes = null;
  #whole = new Axis(1);
  #rank = 0;
  /** @type {Set<number>} */
  #logAxes = new Set();

  /** One sample. @param {number[]} dims @param {Float64Array} reference @param {Float64Array} answer
   * @param {Float64Array} error @param {Uint8Array} counts  which elements do: 1 */
  add(dims, reference, answer, error, counts) {
    if (this.#axes === null) {
      this.#rank = dims.length;
      this.#axes = new Map();
      for (let axis = dims.length === 1 ? 0 : 1; axis < dims.length; axis += 1) {
        if (dims[axis] > 0 && dims[axis] <= LARGEST_AXIS) this.#axes.set(axis, new Axis(dims[axis]));
      }
      this.#logAxes = new Set([...this.#axes].filter(([, sums]) => sums.length > 1).map(([axis]) => axis));
    }
    for (const [axis, sums] of [...this.#axes]) {
      if (dims.length !== this.#rank || dims[axis] !== sums.length) this.#axes.delete(axis);
    }
    this.#findLogAxes(dims, reference, counts);
    this.#whole.add(() => 0, reference, answer, error, counts);
    for (const [axis, sums] of this.#axes) sums.add(along(dims, axis), reference, answer, error, counts);
  }

  /** The squared errors that float32 can resolve, where the whole was computed near 1; null: it was not. */
  wholeNoise() {
    return this.#whole.resolution.holds()[0] ? this.#whole.resolution.beyond[0] : null;
  }

  /** @returns {Part | null} of all added so far; null: too few values to tell */
  worst() {
    /** @type {Part[]} */
    const found = [];
    const whole = this.#whole.decibels(false);
    if (whole !== null) found.push({ index: "", sqnr_db: whole[0] });
    const axes = this.#axes ?? new Map();
    const telling = this.#telling(axes);
    for (const [axis, sums] of axes) {
      if (axis !== telling && sums.length > FEW) continue;
      const each = sums.decibels(this.#logAxes.has(axis));
      if (each !== null) found.push({ index: named(each, axis, this.#rank), sqnr_db: least(each) });
    }
    // The first of equals.
    return found.reduce((best, part) => (best === null || part.sqnr_db < best.sqnr_db ? part : best), /** @type {Part | null} */ (null));
  }

  /** The axis that has a meaning; -1: there is none. @param {Map<number, Axis>} axes */
  #telling(axes) {
    const last = this.#rank - 1;
    const channels = [...axes.keys()].filter((axis) => this.#rank <= 3 || axis === 1 || axis === last).sort((a, b) => a - b);
    if (this.#rank > 2) {
      const lone = this.#rank > 3 ? [1, last] : [2];
      const single = channels.find((axis) => lone.includes(axis) && axes.get(axis)?.length === 1);
      if (single !== undefined) return single;
    }
    let [best, most] = [-1, -Infinity];
    for (const axis of channels) {
      const between = /** @type {Axis} */ (axes.get(axis)).between();
      if (best < 0 || between > most) [best, most] = [axis, between];
    }
    return best;
  }

  /** Axes along which the exponentials add up to 1 everywhere stay. @param {number[]} dims @param {Float64Array} reference
   * @param {Uint8Array} counts */
  #findLogAxes(dims, reference, counts) {
    const axes = [...this.#logAxes].filter((axis) => this.#axes?.has(axis));
    if (axes.length === 0 || reference.length === 0) {
      this.#logAxes = new Set(axes);
      return;
    }
    let highest = -Infinity;
    for (let at = 0; at < reference.length; at += 1) highest = Math.max(highest, counts[at] ? reference[at] : 0);
    this.#logAxes = new Set(highest > ROUNDING ? [] : axes.filter((axis) => addToOne(dims, axis, reference, counts)));
  }
}

/** @param {number[]} dims @param {number} axis @param {Float64Array} reference @param {Uint8Array} counts */
function addToOne(dims, axis, reference, counts) {
  const step = stride(dims, axis);
  const sums = new Float64Array(reference.length / dims[axis]);
  for (let at = 0; at < reference.length; at += 1) {
    if (counts[at]) sums[Math.floor(at / (step * dims[axis])) * step + (at % step)] += Math.exp(reference[at]);
  }
  return sums.every((sum) => Math.abs(sum - 1) <= LOG_SLACK);
}

/** @param {number[]} dims @param {number} axis */
function stride(dims, axis) {
  return dims.slice(axis + 1).reduce((all, dim) => all * dim, 1);
}

/** An element's place → its index along an axis. @param {number[]} dims @param {number} axis */
function along(dims, axis) {
  const [step, length] = [stride(dims, axis), dims[axis]];
  return (/** @type {number} */ at) => Math.floor(at / step) % length;
}

/** Numpy's index of the worst part, with its neighbours that are about as bad. @param {Float64Array} each
 * @param {number} axis @param {number} rank */
function named(each, axis, rank) {
  const worst = each.indexOf(least(each));
  const near = each.map((value) => Number(value <= each[worst] + TOGETHER_DB));
  let [start, stop] = [worst, worst + 1];
  while (start > 0 && near[start - 1]) start -= 1;
  while (stop < each.length && near[stop]) stop += 1;
  if (stop - start === each.length) return "";
  const one = stop - start === 1 ? `${start}` : `${start}:${stop}`;
  if (axis >= 3) return `[..., ${one}${", :".repeat(rank - 1 - axis)}]`;
  return `[${":, ".repeat(axis)}${one}${axis < rank - 1 ? ", ..." : ""}]`;
}

/** What float32 resolves near 1: the evidence, for each index of an axis. */
class Resolution {
  /** @param {number} length */
  constructor(length) {
    this.beyond = new Float64Array(length);
    this.bounded = new Uint8Array(length).fill(1);
    this.zero = new Uint8Array(length).fill(1);
    this.onGrid = [new Uint8Array(length).fill(1), new Uint8Array(length).fill(1)];
    this.fine = [new Float64Array(length), new Float64Array(length)];
  }

  /** @param {number} part @param {number} reference @param {number} answer @param {number} squared */
  add(part, reference, answer, squared) {
    if (Math.abs(reference) > 1) this.bounded[part] = 0;
    if (reference !== 0) this.zero[part] = 0;
    if (squared > RESOLUTION ** 2) this.beyond[part] += squared;
    if (!this.bounded[part]) return;
    for (let side = 0; side < 2; side += 1) {
      if (!this.onGrid[side][part]) continue;
      const value = side ? answer : reference;
      if (!Number.isInteger(value / GRID)) this.onGrid[side][part] = 0;
      else if (Math.abs(value) < SMALL && !isFloat16(value)) this.fine[side][part] += 1;
    }
  }

  /** For which parts only the errors in `beyond` count. */
  holds() {
    const found = this.zero.slice();
    for (const side of [0, 1]) {
      const plain = this.bounded.map((bounded, part) => bounded & this.onGrid[side][part]);
      const shown = plain.map((is, part) => is & Number(this.fine[side][part] >= FEWEST));
      const taken = shown.some(Boolean) ? plain : shown;
      taken.forEach((is, part) => (found[part] |= is));
    }
    return found;
  }
}

/** Whether a number below ¼ has no more digits than float16. @param {number} value */
function isFloat16(value) {
  const size = Math.abs(value);
  return size === 0 || Number.isInteger(size / Math.max(2 ** -24, 2 ** (Math.floor(Math.log2(size)) - 10)));
}

/** The sums of each index of one axis. */
class Axis {
  /** @param {number} length */
  constructor(length) {
    this.length = length;
    this.n = new Float64Array(length);
    /** @type {Float64Array | null} */
    this.shift = null;
    [this.linear, this.square, this.error] = [0, 0, 0].map(() => new Float64Array(length));
    this.low = new Float64Array(length).fill(Infinity);
    this.high = new Float64Array(length).fill(-Infinity);
    this.resolution = new Resolution(length);
  }

  /** @param {(at: number) => number} part @param {Float64Array} reference @param {Float64Array} answer
   * @param {Float64Array} error @param {Uint8Array} counts */
  add(part, reference, answer, error, counts) {
    if (this.shift === null) {
      const [sum, n] = [new Float64Array(this.length), new Float64Array(this.length)];
      for (let at = 0; at < reference.length; at += 1) {
        if (!counts[at]) continue;
        sum[part(at)] += reference[at];
        n[part(at)] += 1;
      }
      this.shift = sum.map((value, index) => value / Math.max(n[index], 1));
    }
    for (let at = 0; at < reference.length; at += 1) {
      const index = part(at);
      const shift = this.shift[index];
      const shifted = counts[at] ? reference[at] - shift : 0;
      this.low[index] = Math.min(this.low[index], shifted + shift);
      this.high[index] = Math.max(this.high[index], shifted + shift);
      if (!counts[at]) continue;
      const squared = error[at] * error[at];
      this.n[index] += 1;
      this.linear[index] += shifted;
      this.square[index] += shifted * shifted;
      this.error[index] += squared;
      this.resolution.add(index, reference[at], answer[at], squared);
    }
  }

  /** @returns {[Float64Array, Float64Array] | null} mean less the shift, and variance, of each index */
  #moments() {
    const mean = this.linear.map((value, index) => value / this.n[index]);
    return [mean, this.square.map((value, index) => Math.max(value / this.n[index] - mean[index] ** 2, 0))];
  }

  /** The variance of the indices' means, less what chance gives them. */
  between() {
    const { shift, n } = this;
    if (least(n) < 1 || shift === null) return 0;
    const [mean, variance] = /** @type {[Float64Array, Float64Array]} */ (this.#moments());
    const means = mean.map((value, index) => value + shift[index]);
    const middle = average(means);
    return average(means.map((value) => (value - middle) ** 2)) - average(variance.map((value, index) => value / n[index]));
  }

  /** DB of each part; null: too few values. @param {boolean} logProbabilities */
  decibels(logProbabilities) {
    const { shift, n } = this;
    if (least(n) < FEWEST || shift === null) return null;
    const [mean, variance] = /** @type {[Float64Array, Float64Array]} */ (this.#moments());
    const size = variance.map((value, index) => Math.sqrt((mean[index] + shift[index]) ** 2 + value));
    const holds = this.resolution.holds();
    const error = this.error.map((value, index) => (holds[index] ? this.resolution.beyond[index] : value) / n[index]);
    const sigma = variance.map(Math.sqrt);
    const constant = sigma.map((value, index) => Number(value <= ROUNDING * size[index]));
    constant.forEach((is, index) => is && (sigma[index] = 0));
    let probable = constant.map((is, index) =>
      Number(!is && (logProbabilities || (this.low[index] >= 0 && this.high[index] <= 1))),
    );
    const highest = this.high.reduce((most, value, index) => (probable[index] ? Math.max(most, value) : most), -Infinity);
    if (highest < (logProbabilities ? Math.log(0.5) : 0.5)) probable = probable.fill(0);
    const floor = floors(sigma, constant, size, probable);
    const [signal, noise] = shrunk(sigma, error, n, probable, constant);
    return floor.map((value, index) => {
      const counted = noise[index] <= (ROUNDING * size[index]) ** 2 ? 0 : noise[index];
      if (counted === 0) return Infinity;
      return 10 * (Math.log10(Math.max(signal[index], value * value)) - Math.log10(counted));
    });
  }
}

/** The least that each part's signal is taken to be. @param {Float64Array} sigma @param {Float64Array} constant
 * @param {Float64Array} size @param {Float64Array} probable */
function floors(sigma, constant, size, probable) {
  const telling = sigma.filter((_, index) => !constant[index]).sort();
  if (telling.length === 0) return size;
  const straggler = telling[Math.floor((telling.length - 1) / STRAGGLERS)];
  const middle = (telling[(telling.length - 1) >> 1] + telling[telling.length >> 1]) / 2;
  const largest = sigma.reduce((most, value, index) => (probable[index] ? Math.max(most, value) : most), 0);
  return sigma.map((value, index) => {
    if (constant[index]) return Math.max(size[index], KAPPA * middle);
    const place = upTo(telling, SIBLINGS * value);
    const floor = KAPPA * Math.max(telling[place > 0 ? place - 1 : telling.length - 1], straggler);
    return probable[index] ? Math.max(floor, PROBABILITY_STEP, KAPPA * largest) : floor;
  });
}

/** Variance and squared error, averaged with those of the siblings. @param {Float64Array} sigma
 * @param {Float64Array} error @param {Float64Array} n @param {Float64Array} probable @param {Float64Array} constant */
function shrunk(sigma, error, n, probable, constant) {
  const order = Array.from(sigma.keys()).sort((a, b) => sigma[a] - sigma[b] || a - b);
  const ranked = Float64Array.from(order, (index) => sigma[index]);
  return [sigma.map((value) => value * value), error].map((values) => {
    const running = new Float64Array(order.length + 1);
    order.forEach((index, place) => (running[place + 1] = running[place] + values[index]));
    const inside = values.filter((_, index) => probable[index]);
    const shared = inside.length ? average(inside) : 0;
    return values.map((value, index) => {
      if (constant[index]) return value;
      const [first, last] = [below(ranked, sigma[index] / SIBLINGS), upTo(ranked, sigma[index] * SIBLINGS)];
      const siblings = probable[index] ? shared : (running[last] - running[first]) / (last - first);
      const own = n[index] / (n[index] + PRIOR);
      return own * value + (1 - own) * siblings;
    });
  });
}

/** How many of some sorted numbers are at most `value`. @param {Float64Array} sorted @param {number} value */
function upTo(sorted, value) {
  return search(sorted, (item) => item <= value);
}

/** How many of some sorted numbers are less than `value`. @param {Float64Array} sorted @param {number} value */
function below(sorted, value) {
  return search(sorted, (item) => item < value);
}

/** @param {Float64Array} sorted @param {(item: number) => boolean} before */
function search(sorted, before) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (before(sorted[middle])) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @param {Float64Array} values */
function least(values) {
  return values.reduce((low, value) => Math.min(low, value), Infinity);
}

/** @param {Float64Array} values */
function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
