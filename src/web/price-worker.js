// The shared worker that runs the price stream.

import { PriceHub } from "./price-hub.js";

const hub = new PriceHub();

addEventListener("connect", ({ ports: [port] }) => {
  port.onmessage = ({ data }) => hub.hear(port, data, (message) => port.postMessage(message));
});
