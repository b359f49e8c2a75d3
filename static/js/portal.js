/* Two small kindnesses; every page stands without them. They share a file because each file is a
   request, and half a second on a thin line. */
(() => {
  // A password field: a button that shows what was typed, and a word when Caps Lock is on.
  for (const box of document.querySelectorAll("[data-show]")) {
    const input = box.querySelector("input"), words = box.dataset;
    const button = document.createElement("button"), caps = document.createElement("p");
    button.type = "button";
    button.className = "link";
    button.textContent = words.show;
    button.onclick = () => {
      const hidden = input.type == "password";
      input.type = hidden ? "text" : "password";
      button.textContent = hidden ? words.hide : words.show;
    };
    caps.className = "field__hint";
    caps.role = "status";
    input.onkeyup = (event) => {
      caps.textContent = event.getModifierState?.("CapsLock") ? words.caps : "";
    };
    box.append(caps, button);
  }
  // What the next page needs and this one does not: once the line is quiet, and never beside a form.
  const later = document.currentScript.dataset.later;
  if (later) {
    const start = setTimeout(() => fetch(later, { priority: "low" }), 2000);
    addEventListener("submit", () => clearTimeout(start));
  }
  // A link that failed on the way is followed plainly: the browser then says what is wrong.
  document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
    const link = ctx?.sourceElement;
    if (link?.href) location = link.href;
  });
})();
