// Live charts of the overview: the last hour from data-live, and what is new every data-period seconds. The same figures stand in tables.
"use strict";

(() => {
  const board = document.querySelector("[data-live]");
  if (!board || !window.uPlot) return;
  const language = board.dataset.language;
  const [period, kept, tabled] = ["period", "kept", "tabled"].map((name) => Number(board.dataset[name]));
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
  const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false, timeZone: "UTC" });
  const hours = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC" });
  const said = {
    rate: (value) => number.format(value),
    number: (value) => whole.format(value),
    seconds: (value) => (value < 1 ? `${number.format(value * 1000)}\u00a0ms` : `${number.format(value)}\u00a0s`),
  };
  const tell = (kind, value) => (value == null ? "–" : said[kind](value));
  const colour = (name) => getComputedStyle(probe(name)).color;
  // Custom properties hold light-dark(): only an element that uses one knows which colour that is.
  const probe = (name) => {
    const element = document.createElement("span");
    element.hidden = true;
    element.style.color = `var(${name})`;
    board.append(element);
    setTimeout(() => element.remove());
    return element;
  };

  const history = { at: [] };
  const figures = [...board.querySelectorAll("[data-chart]")].map((figure) => ({
    figure,
    kind: figure.dataset.kind,
    names: figure.dataset.series.trim().split(" "),
    plot: null,
  }));

  function take(news) {
    for (const name of Object.keys(news)) {
      history[name] = (history[name] ?? []).concat(news[name]).slice(-kept);
    }
  }

  function data(chart) {
    return [history.at.map((at) => at / 1000), ...chart.names.map((name) => history[name] ?? [])];
  }

  function draw(chart) {
    const place = chart.figure.querySelector(".plot");
    if (history.at.length < 2) return;
    if (chart.plot) {
      chart.plot.setData(data(chart));
    } else {
      const strokes = [colour("--rose"), colour("--blue")];
      const axis = { stroke: colour("--ink-soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      chart.plot = new uPlot(
        {
          width: place.clientWidth,
          height: place.clientHeight,
          legend: { show: false },
          cursor: { y: false },
          scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.15 : 1] } },
          axes: [
            { ...axis, space: 70, size: 28, values: (_, at) => at.map((each) => hours.format(each * 1000)) },
            { ...axis, size: 56, space: 34, values: (_, values) => values.map((each) => tell(chart.kind, each)) },
          ],
          series: [{}, ...chart.names.map((name, place) => ({ label: name, stroke: strokes[place], width: 2, spanGaps: false, points: { show: false } }))],
        },
        data(chart),
        place,
      );
      new ResizeObserver(() => chart.plot.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
    }
  }

  function write(chart) {
    const last = history.at.length - 1;
    for (const name of chart.names) {
      chart.figure.querySelector(`[data-now="${name}"]`).textContent = tell(chart.kind, history[name]?.[last]);
    }
    const rows = [];
    for (let index = last; index > Math.max(-1, last - tabled); index -= 1) {
      const row = document.createElement("tr");
      row.append(cell(clock.format(history.at[index])), ...chart.names.map((name) => cell(tell(chart.kind, history[name]?.[index]), "num")));
      rows.push(row);
    }
    chart.figure.querySelector("tbody").replaceChildren(...rows);
  }

  function cell(text, kind = "") {
    const element = document.createElement("td");
    element.textContent = text;
    element.className = kind;
    return element;
  }

  async function look() {
    const since = history.at.at(-1) ?? 0;
    try {
      const answer = await fetch(`${board.dataset.live}?since=${since}`, { headers: { Accept: "application/json" } });
      if (answer.status === 401) return location.reload(); // signed in no more
      if (answer.ok) take(await answer.json());
    } catch {
      return; // away for a moment: what is drawn stays, and says until when it is
    }
    for (const chart of figures) {
      draw(chart);
      if (history.at.length > 0) write(chart);
    }
  }

  const again = () => {
    for (const chart of figures) {
      chart.plot?.destroy();
      chart.plot = null;
      draw(chart);
    }
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  look();
  setInterval(() => document.hidden || look(), period * 1000);
})();
