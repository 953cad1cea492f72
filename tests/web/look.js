// What the page says and shows, for those who drive a browser.
() => {
  const text = (id) => document.getElementById(id).textContent.trim();
  return {
    status: text("status"),
    wrong: document.getElementById("status").classList.contains("wrong"),
    times: text("times"),
    legends: text("legends"),
    summary: document.getElementById("picture").getAttribute("aria-label"),
    boxes: [...document.querySelectorAll("#boxes rect.box")].map((rect) => ({
      label: Number(rect.dataset.label),
      score: Number(rect.dataset.score),
      box: ["x", "y", "width", "height"].map((side) => Number(rect.getAttribute(side))),
    })),
  };
}
