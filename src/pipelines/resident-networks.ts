/**
 * The networks of one model: in memory together as long as they fit, in turns when they do not. A 12-billion-parameter
 * transformer and the text encoder that feeds it need not both be there for a picture to be drawn.
 */
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import type { Session } from "../onnx/session.ts";
import type { ScaledLora } from "../weights/lora.ts";
import type { Component } from "../weights/single-file.ts";
import type { GraphFunction } from "./network-graphs.ts";
import type { NetworkLoader } from "./network-loader.ts";

/** What it takes to load a network. */
export interface Network {
  /** One network at a time has a place: another one for the same place makes it go. */
  place: string;
  component: Component;
  graph: GraphFunction;
  /** Adapters on top; those that change nothing in this network are passed over. */
  loras?: readonly ScaledLora[];
}

interface Resident {
  network: Network;
  weightBytes: number;
  session: Promise<Session>;
}

export class ResidentNetworks {
  readonly #loader: NetworkLoader;
  readonly #availableBytes: (loadedBytes: number) => number;
  /** Written and checked, by network. */
  readonly #graphs = new WeakMap<Network, OnnxGraph>();
  /** By place, the one that was not used for longest first. */
  readonly #residents = new Map<string, Resident>();

  /** @param availableBytes memory that could be had now, without what is loaded already, so many bytes of weights */
  constructor(loader: NetworkLoader, availableBytes: (loadedBytes: number) => number) {
    this.#loader = loader;
    this.#availableBytes = availableBytes;
  }

  /**
   * Makes sure that `network` can be loaded, without loading it.
   *
   * @throws ModelInvalidError, WeightsInvalidError when its files, or a LoRA for it, cannot be used.
   * @throws EaselError `io_failed` when converted weights cannot be kept.
   */
  async prepare(network: Network): Promise<OnnxGraph> {
    const known = this.#graphs.get(network);
    if (known !== undefined) return known;
    const graph = await this.#loader.prepare(network.component, network.graph, network.loras);
    this.#graphs.set(network, graph);
    return graph;
  }

  /**
   * The network, ready to run until the next call of `get`; others leave if it would not fit beside them.
   *
   * @param workBytes what a run needs besides the weights
   * @throws as `prepare`, and ModelInvalidError when ONNX Runtime refuses the network.
   */
  async get(network: Network, workBytes: number): Promise<Session> {
    const { place } = network;
    const resident = this.#residents.get(place);
    if (resident?.network === network) {
      this.#residents.delete(place);
      this.#residents.set(place, resident); // now the one used last
      await this.#makeRoom(workBytes, place);
      return await resident.session;
    }
    const graph = await this.prepare(network);
    await this.#unload(place);
    await this.#makeRoom(graph.weightBytes + workBytes, place);
    const session = this.#loader.start(graph);
    session.catch(() => this.#residents.delete(place));
    this.#residents.set(place, { network, weightBytes: graph.weightBytes, session });
    return await session;
  }

  /** Gives all memory back. */
  async dispose(): Promise<void> {
    await Promise.all([...this.#residents.keys()].map((place) => this.#unload(place)));
  }

  async #makeRoom(bytes: number, exceptPlace: string): Promise<void> {
    for (const place of this.#residents.keys()) {
      const loadedBytes = [...this.#residents.values()].reduce((sum, { weightBytes }) => sum + weightBytes, 0);
      if (this.#availableBytes(loadedBytes) >= bytes) return;
      if (place !== exceptPlace) await this.#unload(place);
    }
  }

  async #unload(place: string): Promise<void> {
    const resident = this.#residents.get(place);
    this.#residents.delete(place);
    await resident?.session.then(
      (session) => session.dispose(),
      () => {},
    );
  }
}
