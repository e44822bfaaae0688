/** Runs a graph on ONNX Runtime. `run` blocks the calling thread, so sessions belong in the engine process only. */
import * as ort from "onnxruntime-node";
import { EaselError, ModelInvalidError } from "../errors.ts";
import type { ResolvedDevice } from "./devices.ts";
import type { OnnxGraph } from "./graph-builder.ts";
import { PlacementProfile } from "./placement.ts";

/** A tensor in JavaScript's memory. */
export interface HostTensor<T extends Float32Array | BigInt64Array = Float32Array | BigInt64Array> {
  data: T;
  dims: readonly number[];
}

/** A tensor that a graph takes or gives. */
export interface TensorSignature {
  name: string;
  /** "float32", "int64"…; "other" for what is no tensor. */
  dtype: string;
  dims: readonly (number | string)[];
}

export interface SessionOptions {
  device: ResolvedDevice;
  /** CPU threads. */
  threads: number;
  /** For WebGPU devices on which ONNX Runtime's attention goes wrong: leaves that operation to the CPU. */
  attentionOnCpu?: boolean | undefined;
  /** Told after the first run which operations the CPU had to do for another device; not when there are none. */
  onCpuOperations?: ((names: readonly string[]) => void) | undefined;
}

export class Session {
  readonly #session: ort.InferenceSession;
  readonly #options: SessionOptions;
  /** Of the first run, on other devices than the CPU. */
  #placement: PlacementProfile | undefined;

  private constructor(session: ort.InferenceSession, options: SessionOptions, placement: PlacementProfile | undefined) {
    this.#session = session;
    this.#options = options;
    this.#placement = placement;
  }

  /** @throws ModelInvalidError when ONNX Runtime refuses the graph or cannot read its weights. */
  static async create(graph: OnnxGraph, options: SessionOptions): Promise<Session> {
    const watched = options.device !== "cpu" && options.onCpuOperations !== undefined;
    const placement = watched ? new PlacementProfile() : undefined;
    const sessionOptions: ort.InferenceSession.SessionOptions = {
      executionProviders: executionProviders(graph, options),
      intraOpNumThreads: options.threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
      extra: {
        session: {
          force_spinning_stop: "1", // threads that wait for more work would take the cores from the next network
          ...(graph.externalDataDir === undefined
            ? {}
            : { model_external_initializers_file_folder_path: graph.externalDataDir }),
        },
      },
      ...(placement === undefined ? {} : { enableProfiling: true, profileFilePrefix: placement.prefix }),
    };
    try {
      return new Session(await ort.InferenceSession.create(graph.model, sessionOptions), options, placement);
    } catch (cause) {
      placement?.[Symbol.dispose]();
      throw new ModelInvalidError(`The model could not be loaded: ${reason(cause)}.`, { cause });
    }
  }

  /** What the graph takes; a size that is known only when it runs has a name. */
  get inputs(): readonly TensorSignature[] {
    return this.#session.inputMetadata.map(signature);
  }

  /** What it gives. */
  get outputs(): readonly TensorSignature[] {
    return this.#session.outputMetadata.map(signature);
  }

  /** The graph's outputs, by name; all of them are float32. */
  async run(inputs: Readonly<Record<string, HostTensor>>): Promise<Record<string, HostTensor<Float32Array>>> {
    const feeds: Record<string, ort.Tensor> = {};
    for (const [name, { data, dims }] of Object.entries(inputs)) {
      feeds[name] =
        data instanceof Float32Array ? new ort.Tensor("float32", data, dims) : new ort.Tensor("int64", data, dims);
    }
    let results: ort.InferenceSession.OnnxValueMapType;
    try {
      results = await this.#session.run(feeds);
    } catch (cause) {
      throw new EaselError("internal", `The network failed while it ran: ${reason(cause)}.`, { cause });
    }
    this.#tellPlacement();
    const outputs: Record<string, HostTensor<Float32Array>> = {};
    for (const [name, tensor] of Object.entries(results)) {
      outputs[name] = { data: tensor.data as Float32Array, dims: tensor.dims };
    }
    return outputs;
  }

  /** Gives the network's memory back. */
  async dispose(): Promise<void> {
    await this.#session.release();
    this.#placement?.[Symbol.dispose]();
  }

  #tellPlacement(): void {
    if (this.#placement === undefined) return;
    using placement = this.#placement;
    this.#placement = undefined;
    this.#session.endProfiling();
    const names = placement.cpuOperations();
    if (names.length > 0) this.#options.onCpuOperations?.(names);
  }
}

function executionProviders({ attentionNodes = [] }: OnnxGraph, { device, attentionOnCpu }: SessionOptions) {
  if (device === "cpu") return ["cpu"];
  // ONNX Runtime refuses an empty list.
  if (device === "webgpu" && attentionOnCpu && attentionNodes.length > 0)
    return [{ name: device, forceCpuNodeNames: attentionNodes }, "cpu"];
  return [device, "cpu"];
}

function signature(value: ort.InferenceSession.ValueMetadata): TensorSignature {
  return value.isTensor
    ? { name: value.name, dtype: value.type, dims: value.shape }
    : { name: value.name, dtype: "other", dims: [] };
}

function reason(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return message.split("\n", 1)[0]!.replace(/\.$/, "");
}
