// Draw one figure after the other, so that the page can be read meanwhile.
addEventListener("load", async () => {
  for (const spec of document.querySelectorAll(".spec")) {
    if (!window.Plotly) return;
    const box = spec.previousElementSibling.firstElementChild, { data, layout, config } = JSON.parse(spec.textContent);
    box.replaceChildren();
    await Plotly.newPlot(box, data, layout, config);
    await new Promise((done) => setTimeout(done));
  }
});
const button = document.getElementById("unfold");
if (button) button.onclick = () => {
  const open = button.textContent === "Show code";
  for (const part of document.querySelectorAll(".cell > details")) part.open = open;
  button.textContent = open ? "Hide code" : "Show code";
};
