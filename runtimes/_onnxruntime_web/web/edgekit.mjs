// @ts-check
/**
 * Runs this bundle's model in a browser, by onnxruntime-web, with the session options that were measured.
 *
 *     import { load } from "./edgekit.mjs";
 *     const model = await load();
 *     const out = await model.run({ image: new Float32Array(1024) });
 *     console.log(out.logits.data, out.logits.dims);
 *
 * A model with memory keeps it in a stream, from frame to frame:
 *
 *     const stream = model.stream();
 *     const out = await stream.run({ frame: new Float32Array(512) });
 *
 * Nothing falls back in silence: where threads or WebGPU cannot be had as asked for, `load` throws and says why.
 */

/** @typedef {"wasm" | "webgpu"} Backend */
/** @typedef {{name: string, dtype: string, shape: (number | string)[]}} TensorSpec */
/** @typedef {ArrayBufferView | ArrayLike<number | bigint | string | boolean>} Data */
/** @typedef {Data | {data: Data, dims?: readonly number[]}} Feed */
/** @typedef {{data: any, dims: readonly number[], type: string}} Tensor  of onnxruntime-web */
/** @typedef {{input: string, output: string, buffer: boolean}} StatePair  an output that is an input of the next run */
/**
 * @typedef {object} LoadOptions  what is left out is as it was measured
 * @property {Backend} [backend]
 * @property {number} [threads]  of WebAssembly; 0: onnxruntime-web's choice
 * @property {string} [optimization]  "all", "extended", "basic" or "disabled"
 * @property {"gpu" | "software"} [adapter]  WebGPU's: "software" accepts one that the CPU plays, to test without a GPU
 * @property {boolean} [fallback]  WebGPU: whether operators may run on the CPU; default: as where it was measured
 * @property {boolean} [verify]  compare the model with the hash in manifest.json; default true
 * @property {string | URL} [bundle]  the bundle's folder; default: the one above this module
 * @property {string | URL} [engine]  the folder with onnxruntime-web's files; default: ort/ beside this module
 * @property {Record<string, unknown>} [session]  further options of ort.InferenceSession.create
 */

/** What can go wrong: `code` is "isolation", "threads", "webgpu", "adapter", "fallback", "model", "input", "busy" or "engine". */
export class ModelError extends Error {
  /** @param {string} code @param {string} message @param {string} [fix] */
  constructor(code, message, fix = "") {
    super(fix ? `${message}. ${fix}` : message);
    this.name = "ModelError";
    this.code = code;
    this.what = message;
    this.fix = fix;
  }
}

const MODULES = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };
const HEADERS = "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp";

/** numpy's name of a dtype → the array that onnxruntime-web takes for it, and its own name. @type {Record<string, [string, string]>} */
const TYPES = {
  float32: ["float32", "Float32Array"],
  float64: ["float64", "Float64Array"],
  float16: ["float16", "Float16Array" in globalThis ? "Float16Array" : "Uint16Array"],
  int8: ["int8", "Int8Array"],
  uint8: ["uint8", "Uint8Array"],
  int16: ["int16", "Int16Array"],
  uint16: ["uint16", "Uint16Array"],
  int32: ["int32", "Int32Array"],
  uint32: ["uint32", "Uint32Array"],
  int64: ["int64", "BigInt64Array"],
  uint64: ["uint64", "BigUint64Array"],
  bool: ["bool", "Uint8Array"],
  string: ["string", "Array"],
};

/** What this page can offer, for people: each `null` comes with its reason. */
export async function environment() {
  const isolated = globalThis.crossOriginIsolated === true;
  const gpu = await adapterOf(/** @type {any} */ (navigator).gpu);
  return {
    crossOriginIsolated: isolated,
    noThreads: isolated ? null : `the page is not cross-origin isolated: its server does not send ${HEADERS}`,
    cores: navigator.hardwareConcurrency ?? null,
    webgpu: typeof gpu === "string" ? null : gpu.told,
    noWebgpu: typeof gpu === "string" ? gpu : null,
  };
}

/**
 * Open the model.
 *
 * @param {LoadOptions} [options]
 * @returns {Promise<Model>}
 * @throws {ModelError} threads or WebGPU are not as asked for, the model is damaged, or the engine refuses it.
 */
export async function load(options = {}) {
  const root = folder(options.bundle ?? new URL("../", import.meta.url));
  const manifest = await fetchJson(new URL("manifest.json", root));
  const asked = {
    backend: "wasm",
    threads: 0,
    optimization: "all",
    adapter: "gpu",
    fallback: "CPU" in (manifest.placement ?? {}),
    ...manifest.runtime.options,
    ...defined(options),
  };
  if (!(asked.backend in MODULES)) {
    throw new ModelError("engine", `there is no backend '${asked.backend}'`, `Allowed: ${Object.keys(MODULES).join(", ")}`);
  }
  const backend = /** @type {Backend} */ (asked.backend);
  refuseThreads(asked.threads);
  const gpu = backend === "webgpu" ? await chooseAdapter(asked.adapter, manifest.precision) : null;
  const ort = await engine(backend, folder(options.engine ?? new URL("ort/", import.meta.url)), asked.threads, gpu);
  const [model, externalData] = await fetchModel(root, manifest, options.verify ?? true);
  const first = await fetchState(root, manifest, options.verify ?? true);
  let session;
  try {
    session = await ort.InferenceSession.create(model, {
      executionProviders: [backend],
      graphOptimizationLevel: asked.optimization,
      logSeverityLevel: 3,
      ...(externalData.length ? { externalData } : {}),
      ...(backend === "webgpu" && !asked.fallback ? { extra: { session: { disable_cpu_ep_fallback: "1" } } } : {}),
      ...asked.session,
    });
  } catch (error) {
    const words = String(/** @type {any} */ (error)?.message ?? error);
    if (/CPU EP has been explicitly disabled/.test(words)) {
      throw new ModelError(
        "fallback",
        "operators of this model would run on the CPU, not by WebGPU",
        "Allow it: fallback: true",
      );
    }
    throw new ModelError("engine", `onnxruntime-web refuses ${manifest.artifact.file.split("/").pop()}: ${words}`);
  }
  const threads = ort.env.wasm.numThreads;
  if (asked.threads > 1 && threads !== asked.threads) {
    throw new ModelError("threads", `${asked.threads} threads were asked for, onnxruntime-web has ${threads}`);
  }
  return new Model(ort, session, manifest, first, {
    backend,
    threads,
    optimization: asked.optimization,
    crossOriginIsolated: globalThis.crossOriginIsolated === true,
    simd: true, // its one WebAssembly file holds SIMD instructions: a browser without them does not compile it
    adapter: gpu?.told ?? null,
    version: ort.env.versions?.web ?? null,
  });
}

/** An open model. */
export class Model {
  #ort;
  #session;
  #first;

  /** @param {any} ort @param {any} session @param {any} manifest @param {Record<string, Feed>} first  the state before
   * the first frame, where it is not zero @param {Record<string, unknown>} inForce */
  constructor(ort, session, manifest, first, inForce) {
    this.#ort = ort;
    this.#session = session;
    this.#first = first;
    /** What goes from one run to the next. @type {StatePair[]} */
    this.state = manifest.state ?? [];
    this.manifest = manifest;
    /** The settings in force. @type {Record<string, any>} */
    this.inForce = inForce;
    /** By the engine's own account. @type {TensorSpec[]} */
    this.inputs = session.inputMetadata.map(specOf);
    /** By the engine's own account. @type {TensorSpec[]} */
    this.outputs = session.outputMetadata.map(specOf);
  }

  /**
   * Run once. Of a model with memory: one frame; state that is no argument of the user's model (a buffer) is what it
   * was before the first frame, and comes out only where it was fed.
   *
   * @param {Record<string, Feed>} feeds  input name → typed array; {data, dims} where more than one dimension is free
   * @returns {Promise<Record<string, Tensor>>} output name → {data, dims, type}
   * @throws {ModelError} an input is missing, unknown or does not fit, or the engine fails.
   */
  async run(feeds) {
    const own = this.state.filter((pair) => pair.buffer && !(pair.input in feeds));
    if (own.length === 0) return this.#run(this.prepare(feeds));
    const ready = this.#prepare(feeds, new Set(own.map((pair) => pair.input)));
    const outputs = await this.#run({ ...ready, ...this.#firstState(own, this.#first, ready) });
    for (const pair of own) delete outputs[pair.output];
    return outputs;
  }

  /**
   * A new stream, whose state goes from frame to frame. Streams of one model are independent.
   *
   * @param {Record<string, Feed>} [initial]  the state before the first frame, where it is not as it was exported
   * @returns {Stream}
   * @throws {ModelError} this model has no memory.
   */
  stream(initial = {}) {
    if (this.state.length === 0) {
      throw new ModelError("input", "this model has no memory: a run depends on its inputs alone", "Call run.");
    }
    const state = new Set(this.state.map((pair) => pair.output));
    const others = this.outputs.map((spec) => spec.name).filter((name) => !state.has(name));
    const shown = others.length ? others : this.state.filter((pair) => !pair.buffer).map((pair) => pair.output);
    const inner = new Set(this.state.map((pair) => pair.input));
    return new Stream(this.state, shown, {
      prepare: (frame) => this.#prepare(frame, inner),
      first: (ready) => this.#firstState(this.state, { ...this.#first, ...initial }, ready),
      run: (ready) => this.#run(ready, [...new Set([...shown, ...state])]),
    });
  }

  /** @param {Record<string, any>} ready @param {string[]} [fetches] */
  async #run(ready, fetches) {
    try {
      return await (fetches ? this.#session.run(ready, fetches) : this.#session.run(ready));
    } catch (error) {
      throw new ModelError("engine", `onnxruntime-web: ${String(/** @type {any} */ (error)?.message ?? error)}`);
    }
  }

  /** The state before the first frame; a free dimension has the size that the frame gives it, else 1.
   * @param {StatePair[]} pairs @param {Record<string, Feed>} given @param {Record<string, any>} ready */
  #firstState(pairs, given, ready) {
    /** @type {Record<string, number>} */
    const sizes = {};
    for (const spec of this.manifest.inputs) {
      (ready[spec.name]?.dims ?? []).forEach((/** @type {number} */ n, /** @type {number} */ i) => (sizes[spec.shape[i]] = n));
    }
    /** @type {Record<string, any>} */
    const state = {};
    for (const { input } of pairs) {
      const spec = this.inputs.find((item) => item.name === input);
      if (spec === undefined) continue; // the engine found no use for it
      const known = this.manifest.inputs.find((/** @type {TensorSpec} */ item) => item.name === input) ?? spec;
      if (input in given) {
        state[input] = this.#tensor(spec, given[input]);
        continue;
      }
      const dims = known.shape.map((/** @type {number | string} */ n) => (typeof n === "number" ? n : (sizes[n] ?? 1)));
      const [, array] = TYPES[spec.dtype] ?? [];
      const make = /** @type {any} */ (globalThis)[array ?? "Float32Array"];
      state[input] = this.#tensor(spec, { data: new make(dims.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1)), dims });
    }
    return state;
  }

  /** `feeds` as tensors, which `run` takes as they are. @param {Record<string, Feed>} feeds @returns {Record<string, any>} */
  prepare(feeds) {
    return this.#prepare(feeds, new Set());
  }

  /** @param {Record<string, Feed>} feeds @param {Set<string>} inner  inputs that are not fed */
  #prepare(feeds, inner) {
    const known = this.inputs.map((spec) => spec.name).filter((name) => !inner.has(name));
    for (const name of Object.keys(feeds)) {
      if (inner.has(name)) {
        throw new ModelError("input", `'${name}' is the model's state, which the stream keeps`, "Feed the other inputs only.");
      }
      if (!known.includes(name)) {
        throw new ModelError("input", `the model has no input '${name}'`, `Allowed: ${known.join(", ")}`);
      }
    }
    /** @type {Record<string, any>} */
    const ready = {};
    for (const spec of this.inputs) {
      if (inner.has(spec.name)) continue;
      if (!(spec.name in feeds)) throw new ModelError("input", `input '${spec.name}' was not fed`);
      const value = /** @type {any} */ (feeds[spec.name]);
      ready[spec.name] = value instanceof this.#ort.Tensor ? value : this.#tensor(spec, value);
    }
    return ready;
  }

  /** With the session option enableProfiling: the engine writes its profile to the console. */
  async endProfiling() {
    await this.#session.endProfiling();
  }

  /** Free the engine's memory. */
  async release() {
    await this.#session.release();
  }

  /** @param {TensorSpec} spec @param {any} value */
  #tensor(spec, value) {
    const bare = ArrayBuffer.isView(value) || Array.isArray(value);
    const data = bare ? value : value?.data;
    const [type, array] = TYPES[spec.dtype] ?? [];
    if (array === undefined) throw new ModelError("input", `'${spec.name}' is ${spec.dtype}, which JavaScript has not`);
    if (data?.constructor?.name !== array) {
      const got = data === undefined || data === null ? String(data) : data.constructor?.name;
      throw new ModelError("input", `'${spec.name}' must be a ${array} (${spec.dtype}), got ${got}`);
    }
    return new this.#ort.Tensor(type, data, dimsOf(spec, data.length, bare ? undefined : value.dims));
  }
}

/** Frames of one stream, in order; see `Model.stream`. */
export class Stream {
  #pairs;
  #shown;
  #engine;
  /** @type {Record<string, any> | null} */
  #state = null;
  #busy = false;

  /** @param {StatePair[]} pairs @param {string[]} shown @param {{prepare: (frame: Record<string, Feed>) => Record<string, any>,
   * first: (ready: Record<string, any>) => Record<string, any>, run: (ready: Record<string, any>) => Promise<any>}} engine */
  constructor(pairs, shown, engine) {
    this.#pairs = pairs;
    this.#shown = shown;
    this.#engine = engine;
  }

  /**
   * One step: the inputs that are no state → the outputs that are none.
   *
   * @param {Record<string, Feed>} frame
   * @returns {Promise<Record<string, Tensor>>}
   * @throws {ModelError} an input does not fit, the engine fails, or the last step is not done ("busy").
   */
  async run(frame) {
    if (this.#busy) {
      throw new ModelError("busy", "the last frame of this stream is not done", "Await it; or open a stream for each source.");
    }
    this.#busy = true;
    try {
      const ready = this.#engine.prepare(frame);
      const state = this.#state ?? this.#engine.first(ready);
      const outputs = await this.#engine.run({ ...ready, ...state });
      this.#state = Object.fromEntries(
        this.#pairs.filter((pair) => pair.input in state).map((pair) => [pair.input, outputs[pair.output]]),
      );
      return Object.fromEntries(this.#shown.map((name) => [name, outputs[name]]));
    } finally {
      this.#busy = false;
    }
  }

  /** Begin a new stream: the state is what it was before the first frame. */
  reset() {
    this.#state = null;
  }
}

/** The dimensions of a feed: as given, or the spec's with its one free dimension from the length.
 * @param {TensorSpec} spec @param {number} length @param {readonly number[] | undefined} given */
function dimsOf(spec, length, given) {
  const shape = spec.shape.join("x") || "scalar";
  if (given !== undefined) {
    const fits = given.length === spec.shape.length && spec.shape.every((n, i) => typeof n === "string" || n === given[i]);
    if (!fits) throw new ModelError("input", `'${spec.name}' must have the shape ${shape}, got ${given.join("x")}`);
    return given;
  }
  const free = spec.shape.filter((size) => typeof size === "string").length;
  const fixed = spec.shape.reduce((/** @type {number} */ all, size) => (typeof size === "number" ? all * size : all), 1);
  if (free > 1) {
    throw new ModelError("input", `'${spec.name}' has ${free} free dimensions (${shape})`, "Feed {data, dims}.");
  }
  if (free === 1 ? fixed === 0 || length % fixed : length !== fixed) {
    throw new ModelError("input", `'${spec.name}' must have the shape ${shape}, got ${length} elements`);
  }
  return spec.shape.map((size) => (typeof size === "number" ? size : length / fixed));
}

/** @param {any} item  of ort's inputMetadata @returns {TensorSpec} */
function specOf(item) {
  if (!item.isTensor) return { name: item.name, dtype: "sequence(tensor)", shape: [] };
  const shape = item.shape.map((/** @type {any} */ size) => (typeof size === "number" && size >= 0 ? size : size || "?"));
  return { name: item.name, dtype: item.type, shape: shape.map((/** @type {any} */ n) => (n === -1 ? "?" : n)) };
}

/** @param {number} threads */
function refuseThreads(threads) {
  if (threads === 1 || globalThis.crossOriginIsolated === true) return;
  throw new ModelError(
    "isolation",
    `${threads || "several"} threads were asked for, but this page is not cross-origin isolated and would get one`,
    `Serve it with ${HEADERS}; or do with one: threads: 1`,
  );
}

/** One engine a page: the first `load` decides its threads. @type {Map<Backend, {ort: any, threads: number}>} */
const started = new Map();

/** @param {Backend} backend @param {URL} where @param {number} threads @param {any} gpu */
async function engine(backend, where, threads, gpu) {
  const before = started.get(backend);
  if (before) {
    if (before.threads !== threads) {
      throw new ModelError("threads", `this page runs onnxruntime-web with ${before.threads} threads`, "Reload the page.");
    }
    return before.ort;
  }
  let ort;
  try {
    ort = await import(new URL(MODULES[backend], where).href);
  } catch (error) {
    throw new ModelError("engine", `onnxruntime-web cannot be loaded from ${where.href}: ${error}`);
  }
  ort.env.wasm.wasmPaths = where.href;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  if (gpu !== null) ort.env.webgpu.adapter = gpu.adapter;
  started.set(backend, { ort, threads });
  return ort;
}

/** @param {"gpu" | "software"} asked @param {string} precision */
async function chooseAdapter(asked, precision) {
  const gpu = await adapterOf(/** @type {any} */ (navigator).gpu);
  if (typeof gpu === "string") throw new ModelError("webgpu", `WebGPU cannot be used here: ${gpu}`);
  if (gpu.told.software && asked !== "software") {
    throw new ModelError(
      "adapter",
      `WebGPU has no GPU here, only an adapter that the CPU plays (${gpu.told.name})`,
      "To test with it all the same: adapter: 'software'",
    );
  }
  if (precision === "fp16" && !gpu.adapter.features.has("shader-f16")) {
    throw new ModelError("webgpu", `this GPU (${gpu.told.name}) has no fp16 (WebGPU's feature shader-f16)`);
  }
  return gpu;
}

/** The adapter, or why there is none. @param {any} gpu */
async function adapterOf(gpu) {
  if (!gpu) {
    const safe = globalThis.isSecureContext;
    return safe ? "this browser has no WebGPU (navigator.gpu)" : "the page is not a secure context (https or localhost)";
  }
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return "the browser offers no adapter: no GPU, or one that it does not trust";
  const info = adapter.info ?? {};
  const name = [info.vendor, info.architecture, info.description].filter(Boolean).join(" ") || "unnamed";
  const software = Boolean(info.isFallbackAdapter ?? adapter.isFallbackAdapter) || /swiftshader|llvmpipe|lavapipe/i.test(name);
  return { adapter, told: { name, software, f16: adapter.features.has("shader-f16") } };
}

/** The model's bytes, and its external data by their names. @param {URL} root @param {any} manifest @param {boolean} verify
 * @returns {Promise<[Uint8Array, {path: string, data: Uint8Array}[]]>} */
async function fetchModel(root, manifest, verify) {
  if (verify && !globalThis.crypto?.subtle) {
    throw new ModelError("model", "hashes can be checked in a secure context only (https or localhost)", "Or: verify: false");
  }
  const main = manifest.artifact.file;
  const beside = main.slice(0, main.lastIndexOf("/") + 1);
  const names = Object.keys(manifest.files).filter((name) => name.startsWith(beside) && name !== main);
  const [model, ...others] = await Promise.all(
    [main, ...names].map(async (name) => {
      const data = new Uint8Array(await (await fetched(new URL(name, root))).arrayBuffer());
      if (verify && (await sha256(data)) !== manifest.files[name].sha256) {
        throw new ModelError("model", `'${name}' is damaged: its SHA-256 is not the manifest's`);
      }
      return data;
    }),
  );
  return [model, others.map((data, index) => ({ path: names[index].slice(beside.length), data }))];
}

/** The state before the first frame, where it is not zero. @param {URL} root @param {any} manifest @param {boolean} verify
 * @returns {Promise<Record<string, Feed>>} */
async function fetchState(root, manifest, verify) {
  const name = "state.npz";
  if (!(manifest.state?.length && name in manifest.files)) return {};
  const data = new Uint8Array(await (await fetched(new URL(name, root))).arrayBuffer());
  if (verify && (await sha256(data)) !== manifest.files[name].sha256) {
    throw new ModelError("model", `'${name}' is damaged: its SHA-256 is not the manifest's`);
  }
  const { readNpz } = await import("./npz.mjs");
  return readNpz(data.buffer);
}

/** @param {Uint8Array<ArrayBuffer>} data */
async function sha256(data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {URL} url */
async function fetchJson(url) {
  return (await fetched(url)).json();
}

/** @param {URL} url */
async function fetched(url) {
  let response;
  try {
    response = await fetch(url);
  } catch (error) {
    throw new ModelError("model", `cannot fetch ${url.href}: ${error}`);
  }
  if (!response.ok) throw new ModelError("model", `cannot fetch ${url.href}: ${response.status} ${response.statusText}`);
  return response;
}

/** @param {string | URL} where */
function folder(where) {
  const url = new URL(where, document.baseURI);
  return url.pathname.endsWith("/") ? url : new URL(`${url.pathname}/`, url);
}

/** @param {Record<string, any>} options */
function defined(options) {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
