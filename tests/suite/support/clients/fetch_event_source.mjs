// Follows a stream with the npm package `@microsoft/fetch-event-source` and prints whatever it calls a
// message as a line of JSON. Arguments: folder of node_modules, address, token.
import { createRequire } from 'node:module';

// It is made for pages.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const [tools, address, token] = process.argv.slice(2);
const { fetchEventSource } = createRequire(`${tools}/`)('@microsoft/fetch-event-source');

await fetchEventSource(address, {
  headers: { Authorization: `Bearer ${token}` },
  openWhenHidden: true,
  async onopen(response) {
    if (!response.ok) throw new Error(`status ${response.status}`);
  },
  onmessage({ event, data, id }) {
    console.log(JSON.stringify({ event, data, id }));
  },
});
