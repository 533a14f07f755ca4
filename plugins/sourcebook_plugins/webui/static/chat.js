customElements.define("sb-chat", class extends HTMLElement {});
