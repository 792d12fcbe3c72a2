// The example's messenger, stopped in the worst moment: it has stored a message, and the relay has not heard of it.
// Arguments: MODE EXAMPLE URL ROOT_CERTIFICATE CODES STATE. Prints one JSON object; the test beside it judges that.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [mode, example, url, rootCertificate, codes, state] = process.argv.slice(2);
const load = (name: string) => import(join(example!, 'src', name));
const [{ netFor }, { Store }, { register }, { Messenger }] = await Promise.all(
  ['relay.ts', 'store.ts', 'register.ts', 'messenger.ts'].map(load));
const { Net } = await import(join(example!, 'node_modules/@signalapp/libsignal-client/dist/index.js'));

setTimeout(() => process.exit(2), 30_000);

const net = netFor(url, readFileSync(rootCertificate!, 'utf8'));
const storeOf = (name: string) => new Store(join(state!, `${name}.json`));
const lastCode = async () => JSON.parse(readFileSync(codes!, 'utf8').trim().split('\n').at(-1)!).code;
const quiet = { onMessage() {}, onNotice() {} };

async function prepare() {
  const [alice, bob] = [storeOf('alice'), storeOf('bob')];
  await register(net, alice, '+4915550000401', lastCode);
  await register(net, bob, '+4915550000402', lastCode);
  const messenger = await Messenger.connect(net, alice, quiet);
  await messenger.addContact({ aci: bob.account.aci, profileKey: bob.account.profileKey });
  for (const body of ['one', 'two']) await messenger.send(bob.account.aci, body);
  return {};
}

async function receive() {
  const shown: string[] = [], notices: string[] = [];
  const bob = storeOf('bob');
  await Messenger.connect(net, bob, {
    onMessage: (message: { body: string }) => shown.push(message.body),
    onNotice: (notice: string) => notices.push(notice),
  });
  return { shown, notices, kept: storeOf('bob').state.messages.map((message: { body: string }) => message.body) };
}

if (mode === 'crash') Net.ChatServerMessageAck.prototype.send = () => process.kill(process.pid, 'SIGKILL');
console.log(JSON.stringify(mode === 'prepare' ? await prepare() : await receive()));
process.exit(0);
