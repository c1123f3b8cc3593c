// Point at a figure: the nearest value within reach is ringed and told exactly.
const reach = 28; // pixels; a finger is wide
const tip = document.getElementById("tip");
for (const svg of document.querySelectorAll("figure svg")) {
  const marks = [...svg.querySelectorAll(".mark")].map((mark) => {
    const title = mark.querySelector("title");
    title.remove(); // the browser would show it a second time
    return { mark, text: title.textContent };
  });
  if (!marks.length) continue;
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 7);
  const hide = () => { tip.hidden = true; ring.remove(); };
  const show = (event) => {
    let nearest, best = reach;
    for (const { mark, text } of marks) {
      const box = mark.getBoundingClientRect();
      const x = box.x + box.width / 2, y = box.y + box.height / 2;
      const distance = Math.hypot(event.clientX - x, event.clientY - y);
      if (distance < best) [nearest, best] = [{ mark, text, x, y }, distance];
    }
    if (!nearest) return hide();
    ring.setAttribute("cx", nearest.mark.getAttribute("cx"));
    ring.setAttribute("cy", nearest.mark.getAttribute("cy"));
    svg.append(ring);
    tip.textContent = nearest.text;
    tip.hidden = false;
    const left = Math.min(nearest.x + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    const below = nearest.y + 14 + tip.offsetHeight > window.innerHeight;
    tip.style.top = `${below ? nearest.y - 14 - tip.offsetHeight : nearest.y + 14}px`;
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", hide);
}
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
