// The one stream of prices that all tabs of a browser share. It follows what the visible tabs want,
// notices when the server falls silent, and comes back by itself. A shared worker runs it, or a tab
// where there are no shared workers: see price-link.js.

const DEFAULT_HEARTBEAT_MS = 15_000; // until a stream has told its own
const SILENT_HEARTBEATS = 2;
const RETRY_MS = [1_000, 4_000]; // only after an answer that made the browser give up by itself
const LINGER_MS = 1_000; // one tab that goes and another that comes share the stream too
export const RENEW_MS = 5_000; // how often a tab repeats what it wants
const LEASE_MS = 3 * RENEW_MS; // a tab that was not heard for so long is gone

const BEGINNING = { kind: "state", state: "connecting", since: null };
const BAD = ["lost", "silent", "waiting"]; // without a stream
const EVENTS = ["open", "reset", "price", "gap", "feed", "heartbeat", "goodbye"];

export class PriceHub {
  #tabs = new Map(); // any key -> { symbols, tell, heardAt }
  #prices = new Map(); // symbol -> its newest price
  #source = null;
  #followed = ""; // the symbols of the stream, as its address has them
  #state = BEGINNING;
  #signAt = null; // when the server last said anything
  #heartbeatMs = DEFAULT_HEARTBEAT_MS;
  #silence = 0; // timers
  #retry = 0;
  #linger = 0;
  #sweeper = 0;

  /**
   * A tab wants these symbols; none when it leaves. It says so again every RENEW_MS. `hurry`: it
   * knows that the server answers. `tell` takes what the hub has to say.
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
    if (hurry && this.#source && BAD.includes(this.#state.state)) this.#open();
  }

  /** Nobody is there any more. */
  close() {
    this.#tabs.clear();
    this.#end();
  }

  /** Brings the stream to what the tabs want. */
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
    this.#state = BEGINNING;
    this.#signAt = null;
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
    this.#awaitSign();
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        // The browser's own `open` tells of an answer: one with nothing but a goodbye where the server asks
        // for time.
        const isOwn = event.data === undefined;
        isEmpty = isOwn || (isEmpty && name === "goodbye");
        if (isOwn) return;
        this.#hearStream(name, JSON.parse(event.data));
        this.#awaitSign();
      });
    }
    source.addEventListener("error", () => {
      if (source !== this.#source) return;
      this.#say(isEmpty ? "waiting" : "lost");
      isEmpty = false;
      // The browser comes back by itself, but never after an answer that it took for final.
      const [least, most] = RETRY_MS;
      if (source.readyState === EventSource.CLOSED) {
        this.#tellAll({ kind: "refused" });
        this.#retry = setTimeout(() => this.#open(), least + Math.random() * (most - least));
      }
    });
  }

  #hearStream(name, content) {
    this.#signAt = Date.now();
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

  /** A stream is never silent for longer than its heartbeat: one that is stands still somewhere. */
  #awaitSign() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      // Of one that is lost this says nothing new.
      if (!BAD.includes(this.#state.state)) this.#say("silent");
      this.#open();
    }, SILENT_HEARTBEATS * this.#heartbeatMs);
  }

  #say(state) {
    if (state === this.#state.state) return;
    this.#state = { kind: "state", state, since: this.#signAt };
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
