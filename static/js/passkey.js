/* Asks the browser for a passkey and sends what it answers with the form that the button stands in.
   Loaded by portal.js when the button is pressed. */
const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (sign) => sign.charCodeAt());
const words = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
const NAMES = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];

/* `options` as the server made them, or where `from` to get them. */
const ask = async ({ options, from }) => {
  const wanted = JSON.parse(options || await (await fetch(from)).text());
  wanted.challenge = bytes(wanted.challenge);
  for (const key of wanted.allowCredentials || wanted.excludeCredentials || []) {
    key.id = bytes(key.id);
  }
  if (wanted.user) wanted.user.id = bytes(wanted.user.id);
  const way = wanted.user ? "create" : "get";
  const made = await navigator.credentials[way]({ publicKey: wanted });
  const response = {};
  for (const name of NAMES) {
    if (made.response[name]) response[name] = words(made.response[name]);
  }
  return JSON.stringify({ id: made.id, rawId: words(made.rawId), type: made.type, response });
};

export const press = async (box, button) => {
  const told = box.querySelector("p") || document.createElement("p");
  const answer = document.createElement("input");
  told.className = "field__error";
  told.role = "status";
  told.textContent = "";
  box.append(told);
  try {
    answer.value = await ask(box.dataset);
  } catch {
    told.textContent = box.dataset.failed;  // refused, given up, or the line is away
    return;
  }
  answer.type = "hidden";
  answer.name = "credential";
  box.append(answer);
  button.formAction = box.dataset.post;
  button.formNoValidate = true;
  button.form.requestSubmit(button);
};
