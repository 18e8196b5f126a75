// Follows a stream with the npm package `eventsource`, which connects again by itself, and prints
// each event as a line of JSON. Arguments: folder of node_modules, address, token.
import { createRequire } from 'node:module';

const [tools, address, token] = process.argv.slice(2);
const { EventSource } = createRequire(`${tools}/`)('eventsource');

const authorized = (url, init) =>
  fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
const source = new EventSource(address, { fetch: authorized });
for (const event of ['open', 'price', 'reset', 'feed', 'goodbye', 'gap']) {
  source.addEventListener(event, ({ data, lastEventId }) => {
    // The package's own "open" tells of the connection and carries nothing.
    if (data !== undefined) console.log(JSON.stringify({ event, data, id: lastEventId }));
  });
}
source.addEventListener('error', () => {
  if (source.readyState === EventSource.CLOSED) throw new Error('the stream is given up for good');
});
// The package's timers keep no process alive.
setInterval(() => {}, 1_000_000);
