// Draw one figure after the other, so that the page can be read meanwhile.
addEventListener("load", async () => {
  for (const spec of document.querySelectorAll(".spec")) {
    if (!window.Plotly) return;
    const box = spec.previousElementSibling.firstElementChild, figure = JSON.parse(spec.textContent);
    const control = figure.frames?.length ? range(box, figure.layout) : null;
    box.replaceChildren();
    await Plotly.newPlot(box, figure);
    if (control) spec.previousElementSibling.before(control);
    await new Promise((done) => setTimeout(done));
  }
});
// A labelled range over a figure's frames, which keys move; plotly's own slider, which only a mouse moves, gives it its place.
function range(box, layout) {
  const { steps, active, currentvalue } = layout.sliders[0], control = document.createElement("label");
  const [name, input, said] = ["span", "input", "output"].map((part) => control.appendChild(document.createElement(part)));
  delete layout.sliders;
  layout.height -= layout.meta.room;
  layout.margin.t -= layout.meta.room;
  box.style.minHeight = `${layout.height}px`;
  control.className = "control";
  name.textContent = currentvalue.prefix.replace(/: $/, "");
  Object.assign(input, { type: "range", min: 0, max: steps.length - 1, step: 1, value: active });
  const say = () => { said.textContent = steps[input.value].label; input.setAttribute("aria-valuetext", said.textContent); };
  input.oninput = () => { say(); Plotly.animate(box, ...steps[input.value].args); };
  say();
  return control;
}
const button = document.getElementById("unfold");
if (button) button.onclick = () => {
  const open = button.textContent === "Show code";
  for (const part of document.querySelectorAll(".cell > details")) part.open = open;
  button.textContent = open ? "Hide code" : "Show code";
};
