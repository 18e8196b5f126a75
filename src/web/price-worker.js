// The shared worker in which the stream of prices lives.

import { PriceHub } from "./price-hub.js";

const hub = new PriceHub();

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => hub.hear(port, data, (message) => port.postMessage(message));
});
