/* Small kindnesses; every page stands without them. They share a file because each file is a
   request, and half a second on a thin line. */
(() => {
  const make = (box, name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    box.append(made);
    return made;
  };
  // A password field: a button that shows what was typed, and a word when Caps Lock is on.
  const dressPassword = (box, say) => {
    const input = box.querySelector("input");
    const caps = make(box, "p", "field__hint", ""), button = make(box, "button", "link", say.show);
    button.type = "button";
    button.onclick = () => {
      const hidden = input.type == "password";
      input.type = hidden ? "text" : "password";
      button.textContent = hidden ? say.hide : say.show;
    };
    caps.role = "status";
    input.onkeyup = (event) => {
      caps.textContent = event.getModifierState?.("CapsLock") ? say.caps : "";
    };
  };
  // A passkey: a button where the browser knows them. Its script comes when it is pressed.
  const dressPasskey = (box, say) => {
    box.textContent = "";
    const button = make(box, "button", "button button--quiet", say.use);
    button.onclick = async (event) => {
      event.preventDefault();
      (await import(say.passkey)).press(box, button);
    };
  };
  const dress = () => {
    for (const box of document.querySelectorAll("[data-show], [data-passkey]")) {
      const say = box.dataset, one = say.show ? dressPassword : window.PublicKeyCredential && dressPasskey;
      if (one && !say.on) one(box, say);
      say.on = "y";
    }
  };
  dress();
  document.addEventListener("htmx:after:swap", dress);
  const words = document.currentScript.dataset;
  // What the next page needs and this one does not: once the line is quiet, never beside a form.
  const later = words.later && setTimeout(() => fetch(words.later, { priority: "low" }), 2000);
  // A form on its way says so and is not sent twice by haste. When no answer comes for long, its
  // button works again: the form's key sees to it that it counts once.
  const status = document.createElement("p");
  let timers = [];
  status.className = "waiting";
  status.role = "status";
  const say = (form, text, busy) => {
    form.ariaBusy = busy;
    status.textContent = text;
  };
  addEventListener("submit", (event) => {
    const form = event.target;
    clearTimeout(later);
    if (form.ariaBusy == "true") return event.preventDefault();
    form.ariaBusy = true;
    document.body.append(status);
    timers = [
      setTimeout(say, 500, form, words.sent, true),  // a quick answer needs no words
      setTimeout(say, 10000, form, words.slow, null),
    ];
  });
  addEventListener("pageshow", () => {
    timers.forEach(clearTimeout);
    for (const form of document.forms) say(form, "", null);
  });
  // A link that failed on the way is followed plainly: the browser then says what is wrong.
  document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    const link = ctx?.sourceElement;
    if (link?.href) location = link.href;
  });
})();
