// The one price stream that all tabs of a browser share. It follows the symbols of the visible
// tabs, notices when the server falls silent, and reconnects by itself. It runs in a shared worker,
// or in a tab without shared workers: see price-link.js.

const DEFAULT_HEARTBEAT_MS = 15_000; // until a stream says its own
const SILENT_HEARTBEATS = 2;
const RETRY_MS = [1_000, 4_000]; // only after an answer on which the browser gives up
const LINGER_MS = 1_000; // so that a tab that opens as another closes shares the stream
export const RENEW_MS = 5_000; // how often a tab repeats its symbols
const LEASE_MS = 3 * RENEW_MS; // a tab silent for this long is gone

const INITIAL = { kind: "state", state: "connecting", since: null };
const NO_STREAM = ["lost", "silent", "waiting"]; // states without a stream
const EVENTS = ["open", "reset", "price", "gap", "feed", "heartbeat", "goodbye"];

export class PriceHub {
  #tabs = new Map(); // any key -> { symbols, tell, heardAt }
  #prices = new Map(); // symbol -> its newest price
  #source = null;
  #followed = ""; // the symbols of the stream, as in its URL
  #state = INITIAL;
  #heardAt = null; // when the server last sent anything
  #heartbeatMs = DEFAULT_HEARTBEAT_MS;
  #silence = 0; // timers
  #retry = 0;
  #linger = 0;
  #sweeper = 0;

  /**
   * A tab wants these symbols, or none when it leaves. It repeats this every RENEW_MS. `hurry` says
   * that the server is known to answer. `tell` receives the hub's messages.
   */
  hear(tab, { symbols, hurry = false }, tell) {
    const known = this.#tabs.get(tab)?.symbols;
    this.#tabs.delete(tab);
    if (symbols.length > 0) {
      this.#tabs.set(tab, { symbols: new Set(symbols), tell, heardAt: performance.now() });
      tell(this.#state);
      for (const symbol of symbols) {
        if (!known?.has(symbol) && this.#prices.has(symbol)) tell(this.#prices.get(symbol));
      }
    }
    this.#follow();
    if (hurry && this.#source && NO_STREAM.includes(this.#state.state)) this.#open();
  }

  /** Ends the hub: no tab is left. */
  close() {
    this.#tabs.clear();
    this.#end();
  }

  /** Makes the stream follow what the tabs want. */
  #follow() {
    clearTimeout(this.#linger);
    const wanted = [...new Set([...this.#tabs.values()].flatMap(({ symbols }) => [...symbols]))].sort();
    const names = wanted.map(encodeURIComponent).join(",");
    if (names === "") this.#linger = setTimeout(() => this.#end(), LINGER_MS);
    else if (names !== this.#followed || !this.#source) {
      for (const symbol of this.#prices.keys()) if (!wanted.includes(symbol)) this.#prices.delete(symbol);
      this.#followed = names;
      this.#open();
    }
  }

  #end() {
    this.#stop();
    clearTimeout(this.#linger);
    clearInterval(this.#sweeper);
    this.#sweeper = 0;
    this.#prices.clear();
    this.#state = INITIAL;
    this.#heardAt = null;
  }

  #stop() {
    clearTimeout(this.#silence);
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #open() {
    this.#stop();
    this.#sweeper ||= setInterval(() => this.#sweep(), RENEW_MS);
    const source = this.#source = new EventSource(`/subscribe?symbols=${this.#followed}&heartbeat=event`);
    let isEmpty = false;
    this.#watchSilence();
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        // The browser's own `open` event means that an answer came: possibly an empty one with just
        // a goodbye, when the server asks for time.
        const isOwn = event.data === undefined;
        isEmpty = isOwn || (isEmpty && name === "goodbye");
        if (isOwn) return;
        this.#hearStream(name, JSON.parse(event.data));
        this.#watchSilence();
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.#source) return;
      this.#say(isEmpty ? "waiting" : "lost");
      isEmpty = false;
      // The browser reconnects by itself, except after an answer that it considers final.
      const [least, most] = RETRY_MS;
      if (source.readyState === EventSource.CLOSED) {
        this.#tellAll({ kind: "refused" });
        this.#retry = setTimeout(() => this.#open(), least + Math.random() * (most - least));
      }
    });
  }

  #hearStream(name, content) {
    this.#heardAt = Date.now();
    if (name === "open") {
      this.#heartbeatMs = content.heartbeatMs;
      this.#say("live");
    } else if (name === "feed") {
      this.#say(content.up ? "live" : "feed-lost");
    } else if (name === "price") {
      const price = { kind: "price", ...content };
      this.#prices.set(content.symbol, price);
      for (const { symbols, tell } of this.#tabs.values()) if (symbols.has(content.symbol)) tell(price);
    } else if (name === "reset") {
      this.#tellAll({ kind: "reset" });
    }
  }

  /** A stream is never silent for longer than its heartbeat: a longer silence means that it hangs. */
  #watchSilence() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      // A lost stream is already reported as such.
      if (!NO_STREAM.includes(this.#state.state)) this.#say("silent");
      this.#open();
    }, SILENT_HEARTBEATS * this.#heartbeatMs);
  }

  #say(state) {
    if (state === this.#state.state) return;
    this.#state = { kind: "state", state, since: this.#heardAt };
    this.#tellAll(this.#state);
  }

  #tellAll(message) {
    for (const { tell } of this.#tabs.values()) tell(message);
  }

  #sweep() {
    const oldest = performance.now() - LEASE_MS;
    const gone = [...this.#tabs].filter(([, { heardAt }]) => heardAt < oldest);
    for (const [tab] of gone) this.#tabs.delete(tab);
    if (gone.length > 0) this.#follow();
  }
}
