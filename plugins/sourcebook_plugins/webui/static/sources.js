customElements.define("sb-sources", class extends HTMLElement {});
