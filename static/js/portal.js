/* Small kindnesses; every page stands without them. They share a file because each file is a
   request, and half a second on a thin line. */
(() => {
  // A password field: a button that shows what was typed, and a word when Caps Lock is on.
  for (const box of document.querySelectorAll("[data-show]")) {
    const input = box.querySelector("input"), say = box.dataset;
    const button = document.createElement("button"), caps = document.createElement("p");
    button.type = "button";
    button.className = "link";
    button.textContent = say.show;
    button.onclick = () => {
      const hidden = input.type == "password";
      input.type = hidden ? "text" : "password";
      button.textContent = hidden ? say.hide : say.show;
    };
    caps.className = "field__hint";
    caps.role = "status";
    input.onkeyup = (event) => {
      caps.textContent = event.getModifierState?.("CapsLock") ? say.caps : "";
    };
    box.append(caps, button);
  }
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
