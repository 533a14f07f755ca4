customElements.define("sb-viewer", class extends HTMLElement {});
