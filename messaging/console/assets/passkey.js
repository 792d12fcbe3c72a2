// Passkeys: the one thing here that needs a script. A form with data-passkey="get" or "create" asks data-options for options, has the
// browser answer them, and sends the answer to data-finish; then it goes where that says.
"use strict";

const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const toBytesEach = (list) => (list || []).map((each) => ({ ...each, id: toBytes(each.id) }));

const ways = {
  get: async (options) => {
    const allowCredentials = toBytesEach(options.allowCredentials);
    const publicKey = { ...options, challenge: toBytes(options.challenge), allowCredentials };
    const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
    return {
      id, rawId: toText(rawId), type,
      response: {
        clientDataJSON: toText(response.clientDataJSON),
        authenticatorData: toText(response.authenticatorData),
        signature: toText(response.signature),
        userHandle: response.userHandle ? toText(response.userHandle) : "",
      },
    };
  },
  create: async (options) => {
    const user = { ...options.user, id: toBytes(options.user.id) };
    const excludeCredentials = toBytesEach(options.excludeCredentials);
    const publicKey = { ...options, challenge: toBytes(options.challenge), user, excludeCredentials };
    const { id, rawId, type, response } = await navigator.credentials.create({ publicKey });
    return {
      id, rawId: toText(rawId), type,
      response: {
        clientDataJSON: toText(response.clientDataJSON),
        attestationObject: toText(response.attestationObject),
      },
    };
  },
};

const send = async (address, body) => {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(body),
    credentials: "same-origin",
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.message);
  return said;
};

const run = async (form) => {
  const fields = Object.fromEntries(new FormData(form));
  const options = await send(form.dataset.options, fields);
  const credential = await ways[form.dataset.passkey](options);
  const { next } = await send(form.dataset.finish, { ...fields, credential });
  window.location.assign(next);
};

for (const form of document.querySelectorAll("form[data-passkey]")) {
  const alert = form.querySelector("[role=alert]");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    alert.hidden = true;
    button.setAttribute("aria-busy", "true");
    button.disabled = true;
    try {
      await run(form);
    } catch (error) {
      // What a browser says of a ceremony that was given up is in its own words, and of no help.
      alert.textContent = error instanceof DOMException ? form.dataset.givenUp : error.message;
      alert.hidden = false;
    } finally {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  });
  const code = form.elements.namedItem("code");
  if (code && window.location.hash.length > 1) {
    code.value = window.location.hash.slice(1);
    window.history.replaceState(null, "", window.location.pathname);
  }
}
