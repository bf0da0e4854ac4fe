// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What tests look at in a page: an expression, whose value is an object with a function for each.
(() => {
  const at = (e) => e.tagName.toLowerCase() + (e.id && `#${e.id}`) + [...e.classList].map((c) => `.${c}`).join("");

  // Colours are [r, g, b, a], each in 0..1, of any CSS colour.
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const color = (css) => {
    if (!known.has(css)) {
      brush.clearRect(0, 0, 1, 1);
      brush.fillStyle = css;
      brush.fillRect(0, 0, 1, 1);
      known.set(css, [...brush.getImageData(0, 0, 1, 1).data].map((v) => v / 255));
    }
    return known.get(css);
  };
  const faded = (c, by) => [c[0], c[1], c[2], c[3] * by];
  const over = (top, below) => {
    const a = top[3] + below[3] * (1 - top[3]);
    const mix = (n) => (a === 0 ? 0 : (top[n] * top[3] + below[n] * below[3] * (1 - top[3])) / a);
    return [mix(0), mix(1), mix(2), a];
  };
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const told = (c) => `#${c.slice(0, 3).map((v) => Math.round(v * 255).toString(16).padStart(2, "0")).join("")}`;

  // What the browser paints where no element does.
  const paper = () => {
    const probe = document.createElement("i");
    probe.style.cssText = "background-color: Canvas; color-scheme: inherit";
    document.documentElement.append(probe);
    const c = color(getComputedStyle(probe).backgroundColor);
    probe.remove();
    return c;
  };

  // Filled shapes of the drawing that are painted before the text, at a point on the screen.
  const shapes = (text, x, y) => {
    const found = [];
    for (const shape of text.ownerSVGElement.querySelectorAll("rect, circle, ellipse, path, polygon")) {
      const style = getComputedStyle(shape);
      const before = shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING;
      const to = shape.getScreenCTM();
      if (!before || !to || style.fill === "none" || !shape.checkVisibility({ visibilityProperty: true })) continue;
      if (shape.closest("defs, clipPath, mask, symbol, marker, pattern")) continue;
      if (shape.isPointInFill(new DOMPoint(x, y).matrixTransform(to.inverse()))) {
        let opacity = style.fillOpacity * 1;
        for (let e = shape; e !== text.ownerSVGElement; e = e.parentElement) opacity *= getComputedStyle(e).opacity;
        found.unshift([style.fill, opacity]);
      }
    }
    return found;
  };

  // The colours of a text and of what is behind it, at a point; none if that is an image.
  const painted = (element, css, x, y) => {
    const svg = element.ownerSVGElement && element.closest("text");
    const own = getComputedStyle(element);
    let text = svg ? faded(color(own.fill), own.fillOpacity) : color(css ?? own.color);
    let ground = [0, 0, 0, 0];
    const behind = (c) => {
      text = over(text, c);
      ground = over(ground, c);
    };
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (svg && e === svg.ownerSVGElement) {
        for (const [fill, opacity] of shapes(svg, x, y)) {
          // What is hidden behind something opaque is no ground.
          if (ground[3] === 1) break;
          if (fill.startsWith("url(")) return null;
          behind(faded(color(fill), opacity));
        }
      }
      if (!e.ownerSVGElement) {
        if (style.backgroundImage !== "none" && ground[3] < 1) return null;
        behind(color(style.backgroundColor));
      }
      text = faded(text, style.opacity);
      ground = faded(ground, style.opacity);
    }
    behind(paper());
    return [text, ground];
  };

  // Everything with text in it that is seen: [element, colour if not its own, text, rectangles].
  const texts = function* () {
    const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      const range = document.createRange();
      range.selectNodeContents(node);
      if (node.data.trim()) yield [node.parentElement, undefined, node.data.trim(), [...range.getClientRects()]];
    }
    for (const field of document.querySelectorAll("input, textarea, select")) {
      const hint = !field.value && field.placeholder;
      const css = hint ? getComputedStyle(field, "::placeholder").color : undefined;
      const text = hint || (["checkbox", "radio", "range", "color"].includes(field.type) ? "" : field.value);
      if (text) yield [field, css, text, [field.getBoundingClientRect()]];
    }
  };

  const contrast = () => {
    const poor = [];
    for (const [element, css, text, all] of texts()) {
      // One pixel is what is left of text for screen readers alone; nobody must read what is disabled.
      const rects = all.filter((r) => r.width > 1 && r.height > 1);
      const seen = rects.length && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
      if (!seen || element.closest(":disabled")) continue;
      let worst = Infinity;
      let where = "";
      for (const r of rects) {
        for (const part of [0.05, 0.5, 0.95]) {
          const colors = painted(element, css, r.left + r.width * part, r.top + r.height / 2);
          const [a, b] = colors ? colors.map(luminance) : [0, 0];
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < worst) {
            worst = ratio;
            where = colors ? `${told(colors[0])} on ${told(colors[1])}` : "on an image";
          }
        }
      }
      if (worst < 4.5) poor.push(`${at(element)} "${text.slice(0, 40)}": ${worst.toFixed(2)}, ${where}`);
    }
    return poor;
  };

  const root = document.documentElement;
  return {
    contrast,
    overflow() {
      if (root.scrollWidth <= root.clientWidth) return null;
      const right = (e) => e.getBoundingClientRect().right;
      const last = [...document.body.querySelectorAll("*")].reduce((a, b) => (right(b) > right(a) ? b : a), root);
      return `${root.scrollWidth} > ${root.clientWidth} pixels, ${at(last)} reaches furthest`;
    },
    nodes: () => document.evaluate("count(//node())", document).numberValue,
    size: () => [root.scrollWidth, root.scrollHeight],
  };
})()
