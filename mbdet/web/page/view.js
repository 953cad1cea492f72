// Everything on the page that shows a result; it is drawn anew when a slider moves, without running the network again.

import { drawBoxes, drawMap } from "./draw.js";
import { countObjects, fillTable, legend, shareClasses } from "./legend.js";

const find = (id) => document.getElementById(id);

export class View {
  #description;
  #result = null;
  #taken = document.createElement("canvas"); // the picture that the network looks at

  constructor(description) {
    this.#description = description;
    for (const name of ["score", "sure"]) find(name).addEventListener("input", () => this.draw());
    find("opacity").addEventListener("input", () => this.#tell());
    find("list").addEventListener("toggle", () => this.draw());
    // Labels have the same size on the screen whatever that of the picture.
    new ResizeObserver(() => this.draw()).observe(find("stage"));
    this.#tell();
  }

  /** Return the pixels of a picture or of a frame, which stays off the stage until it is known what is in it. */
  take(source, { height, width }) {
    this.#taken.width = width;
    this.#taken.height = height;
    const context = this.#taken.getContext("2d", { alpha: false, willReadFrequently: true });
    context.drawImage(source, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }

  /** Put the picture that was taken last on the stage, with what was found in it; return that in words. */
  show(result) {
    this.#result = result;
    const canvas = find("picture");
    canvas.width = result.size.width;
    canvas.height = result.size.height;
    canvas.getContext("2d", { alpha: false }).drawImage(this.#taken, 0, 0);
    find("stage").style.setProperty("--aspect", result.size.width / result.size.height);
    find("stage").hidden = false;
    find("hint").hidden = true;
    find("frame").classList.add("filled");
    return this.draw();
  }

  /** Draw it as the sliders say, and return it in words. */
  draw() {
    this.#tell();
    if (!this.#result) return "";
    const { objects, map, size } = this.#result;
    const found = [];
    if (objects) found.push({ heading: "Objects", entries: this.#drawObjects(objects, size) });
    if (map) found.push({ heading: "Share of the picture", entries: this.#drawMap(map, size) });
    find("legends").replaceChildren(...found.map(({ heading, entries }) => legend(heading, entries)));
    const words = found.flatMap(({ entries }) => entries.map(({ text }) => text)).join(", ") || "nothing found";
    find("picture").setAttribute("aria-label", `Picture with ${words}`);
    return words;
  }

  /** Say where the sliders are. */
  #tell() {
    for (const name of ["score", "sure", "opacity"]) {
      find(`${name}-value`).textContent = Number(find(name).value).toFixed(2);
    }
    find("stage").style.setProperty("--opacity", find("opacity").value);
  }

  #drawObjects(objects, size) {
    const names = this.#description.class_names;
    const least = Number(find("score").value);
    const shown = objects.filter(({ score }) => score >= least);
    drawBoxes(find("boxes"), shown, size, names);
    if (find("list").open) fillTable(find("list").querySelector("tbody"), shown, names);
    return countObjects(shown, names);
  }

  #drawMap(map, size) {
    const names = this.#description.segment_names ?? this.#description.class_names;
    const least = Number(find("sure").value);
    const counts = drawMap(find("map"), map, size, this.#description.input, names, least);
    return shareClasses(counts, size.height * size.width, names);
  }
}
