"use strict"
const filters = document.querySelector("#filters")
if (filters) {
  const models = [...document.querySelectorAll(".models > li")]
  const show = () => {
    const wanted = [...new FormData(filters)].filter(([, value]) => value)
    for (const model of models) model.hidden = !wanted.every(([name, value]) => model.dataset[name] === value)
    const shown = models.filter(model => !model.hidden).length
    document.querySelector("#shown").textContent = `${shown} of ${models.length} models`
    document.querySelector("#none").hidden = shown > 0
  }
  filters.addEventListener("submit", event => event.preventDefault())
  filters.addEventListener("input", show)
  filters.addEventListener("reset", () => setTimeout(show))
  // A browser that goes back keeps what was chosen.
  addEventListener("pageshow", show)
  filters.hidden = false
}
for (const block of document.querySelectorAll(".copy")) {
  const text = block.querySelector("code")
  const button = document.createElement("button")
  button.type = "button"
  button.textContent = "Copy"
  button.setAttribute("aria-label", `Copy: ${text.textContent}`)
  button.addEventListener("click", async () => {
    const status = document.querySelector("#status")
    try {
      await navigator.clipboard.writeText(text.textContent)
      status.textContent = "Copied"
      button.textContent = "Copied"
    } catch {
      // A page without https may not write; the text is selected instead.
      getSelection().selectAllChildren(text)
      status.textContent = "Selected; press Ctrl+C"
    }
    setTimeout(() => { button.textContent = "Copy" }, 2000)
  })
  block.append(button)
}
