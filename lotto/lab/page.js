// Draw one figure after the other, so that the page can be read meanwhile.
addEventListener("load", async () => {
  for (const spec of document.querySelectorAll(".spec")) {
    if (!window.Plotly) return;
    const box = spec.previousElementSibling.firstElementChild, figure = JSON.parse(spec.textContent);
    const control = figure.frames?.length ? range(box, figure) : null;
    box.replaceChildren();
    await Plotly.newPlot(box, figure.data, figure.layout, figure.config);
    if (control) spec.previousElementSibling.before(control);
    await new Promise((done) => setTimeout(done));
  }
});
// A labelled range over a figure's frames, which keys move; plotly's own slider, which only a mouse moves, gives it its place.
// It draws whole figures, since plotly's animate divides by the duration of a change, and that is 0 here.
function range(box, figure) {
  const { data, layout, frames } = figure, { steps, active, currentvalue } = layout.sliders[0], control = document.createElement("label");
  const [name, input, said] = ["span", "input", "output"].map((part) => control.appendChild(document.createElement(part)));
  delete layout.sliders;
  layout.height -= layout.meta.room;
  layout.margin.t -= layout.meta.room;
  box.style.minHeight = `${layout.height}px`;
  control.className = "control";
  name.textContent = currentvalue.prefix.replace(/: $/, "");
  Object.assign(input, { type: "range", min: 0, max: steps.length - 1, step: 1, value: active });
  const say = () => { said.textContent = steps[input.value].label; input.setAttribute("aria-valuetext", said.textContent); };
  input.oninput = () => {
    const chosen = frames[input.value], drawn = [...data];
    chosen.traces.forEach((at, i) => { drawn[at] = merged(data[at], chosen.data[i]); });
    say();
    Plotly.react(box, drawn, merged(layout, chosen.layout));
  };
  say();
  return control;
}
// What `to` says, and what it does not say as in `from`.
function merged(from, to) {
  const plain = [from, to].every((part) => part?.constructor === Object);
  return plain ? { ...from, ...Object.fromEntries(Object.keys(to).map((key) => [key, merged(from[key], to[key])])) } : to;
}
const button = document.getElementById("unfold");
if (button) button.onclick = () => {
  const open = button.textContent === "Show code";
  for (const part of document.querySelectorAll(".cell > details")) part.open = open;
  button.textContent = open ? "Hide code" : "Show code";
};
