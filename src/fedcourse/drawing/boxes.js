// Boxes to draw in. Points go from 0 to 1; a stroke is sent when the pointer is lifted.

const SIDE = 112; // CSS pixels
const STYLE = `
.fedcourse-boxes { display: flex; flex-wrap: wrap; gap: 8px; font: 14px system-ui, sans-serif }
.fedcourse-box { position: relative; display: flex; flex-direction: column; align-items: center;
  gap: 2px }
.fedcourse-box span { position: absolute; left: 6px; top: 3px; color: #666; pointer-events: none }
.fedcourse-box canvas { width: ${SIDE}px; height: ${SIDE}px; background: white; cursor: crosshair;
  border: 1px solid #888; border-radius: 4px; touch-action: none }
.fedcourse-box output { min-height: 1.3em; font-weight: 600 }
.fedcourse-boxes > button { align-self: flex-end }
.fedcourse-boxes button { font: inherit; cursor: pointer; color: inherit; background: none;
  border: 1px solid #8888; border-radius: 4px; padding: 0 6px }
`;

function draw(canvas, drawing) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = canvas.height = SIDE * scale;
  const pen = canvas.getContext("2d");
  pen.scale(SIDE * scale, SIDE * scale);
  pen.lineWidth = 0.07;
  pen.lineCap = pen.lineJoin = "round";
  for (const stroke of drawing) {
    pen.beginPath();
    for (const [x, y] of stroke) pen.lineTo(x, y);
    if (stroke.length === 1) pen.lineTo(stroke[0][0], stroke[0][1]); // a dot
    pen.stroke();
  }
}

function render({ model, el }) {
  const style = document.createElement("style");
  style.textContent = STYLE;
  const boxes = document.createElement("div");
  boxes.className = "fedcourse-boxes";
  const strokesOf = (number) => model.get("strokes")[number] || [];
  const send = (number, drawing) => {
    const all = model.get("strokes").slice();
    all[number] = drawing;
    model.set("strokes", all);
    model.save_changes();
  };

  const shown = model.get("labels").map((label, number) => {
    const box = document.createElement("div");
    box.className = "fedcourse-box";
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `box to draw ${label} in`);
    const name = document.createElement("span");
    name.textContent = label;
    name.setAttribute("aria-hidden", "true"); // the canvas says it
    const wipe = document.createElement("button");
    wipe.textContent = "wipe";
    wipe.setAttribute("aria-label", `wipe ${label}`);
    const reading = document.createElement("output");
    box.append(canvas, name, reading, wipe);
    boxes.append(box);

    let stroke = null;
    let pointer = null; // one at a time: a second finger or a palm draws nothing
    const point = (event) => {
      const edge = canvas.getBoundingClientRect();
      const along = (value) => Math.round(1e4 * Math.min(1, Math.max(0, value))) / 1e4;
      return [
        along((event.clientX - edge.left) / edge.width),
        along((event.clientY - edge.top) / edge.height),
      ];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || stroke) return;
      event.preventDefault();
      pointer = event.pointerId;
      canvas.setPointerCapture(pointer);
      stroke = [point(event)];
      draw(canvas, [...strokesOf(number), stroke]);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!stroke || event.pointerId !== pointer) return;
      const passed = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
      for (const each of passed.length ? passed : [event]) stroke.push(point(each));
      draw(canvas, [...strokesOf(number), stroke]);
    });
    const lift = (event) => {
      if (!stroke || event.pointerId !== pointer) return;
      const drawing = [...strokesOf(number), stroke];
      stroke = null;
      send(number, drawing);
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    wipe.addEventListener("click", () => send(number, []));
    return () => {
      draw(canvas, stroke ? [...strokesOf(number), stroke] : strokesOf(number));
      reading.textContent = model.get("readings")[number] || "";
    };
  });

  const all = document.createElement("button");
  all.textContent = "wipe all";
  all.addEventListener("click", () => {
    model.set("strokes", model.get("labels").map(() => []));
    model.save_changes();
  });
  boxes.append(all);
  el.append(style, boxes);

  const refresh = () => shown.forEach((show) => show());
  model.on("change:strokes", refresh);
  model.on("change:readings", refresh);
  refresh();
  return () => {
    model.off("change:strokes", refresh);
    model.off("change:readings", refresh);
  };
}

export default { render };
