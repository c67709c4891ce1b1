// Runs a workflow in ComfyUI's real front end and takes its picture, as in workflows/*.png.
//   npm install playwright-core; make comfy &
//   node laboratory/samples/workflow_picture.mjs 8188 workflows/quick_start.json workflows/quick_start.png 1600 840
// Also says what the front end complained about while loading: nothing, save look-ups that need a network.
import { chromium } from 'playwright-core';
import fs from 'fs';

const [port, file, picture, width = '1600', height = '840'] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/lib/chromium/chromium', args: ['--no-sandbox', '--disable-gpu'],
});
const page = await browser.newPage({ viewport: { width: +width, height: +height } });
const complaints = [];
page.on('console', m => { if (['warning', 'error'].includes(m.type())) complaints.push(m.text().slice(0, 300)); });
await page.goto(`http://127.0.0.1:${port}/`, { waitUntil: 'load' });
await page.waitForFunction(() => window.app?.graph && window.app.canvas, null, { timeout: 120000 });
await page.waitForTimeout(6000);
// Nothing over the graph, and every letter drawn however small.
await page.evaluate(async () => {
  for (const [name, value] of Object.entries({
    'Comfy.TutorialCompleted': true, 'Comfy.Minimap.Visible': false, 'Comfy.Graph.CanvasInfo': false,
    'Comfy.Workflow.WorkflowTabsPosition': 'Sidebar', 'LiteGraph.Canvas.MinFontSizeForLOD': 0,
  })) await window.app.extensionManager.setting.set(name, value);
  for (const close of document.querySelectorAll('.p-dialog button[aria-label="Close"]')) close.click();
});
await page.waitForTimeout(1000);
complaints.length = 0;
const workflow = JSON.parse(fs.readFileSync(file, 'utf8'));
await page.evaluate(w => window.app.loadGraphData(w, true, true, 'workflow'), workflow);
await page.waitForTimeout(2000);
console.log('dialogs:', await page.evaluate(() => [...document.querySelectorAll('.p-dialog')].map(e => e.innerText)));
await page.evaluate(async () => {
  window.finished = null;
  window.app.api.addEventListener('execution_success', () => { window.finished = 'ok'; });
  window.app.api.addEventListener('execution_error', e => { window.finished = e.detail.exception_message; });
  await window.app.queuePrompt(0, 1);
});
await page.waitForFunction(() => window.finished, null, { timeout: 600000 });
console.log('run:', await page.evaluate(() => window.finished));
await page.waitForTimeout(4000);
await page.evaluate(() => {
  const boxes = [...window.app.graph._nodes, ...window.app.graph._groups];
  const x0 = Math.min(...boxes.map(b => b.pos[0])), x1 = Math.max(...boxes.map(b => b.pos[0] + b.size[0]));
  const y0 = Math.min(...boxes.map(b => b.pos[1] - 30)), y1 = Math.max(...boxes.map(b => b.pos[1] + b.size[1]));
  const area = window.app.canvas.canvas.getBoundingClientRect(), view = window.app.canvas.ds;
  view.scale = Math.min((area.width - 100) / (x1 - x0), (area.height - 90) / (y1 - y0));
  view.offset[0] = 70 / view.scale - x0;
  view.offset[1] = 60 / view.scale - y0;
  window.app.canvas.setDirty(true, true);
  for (const video of document.querySelectorAll('video')) { video.pause(); video.currentTime = 2; }
  for (const bar of document.querySelectorAll(
    '.actionbar-container, .p-toast, [class*=subgraph-breadcrumb], .p-buttongroup')) bar.style.visibility = 'hidden';
  for (const note of document.querySelectorAll('div, button')) {
    if (/^\d+ jobs? completed$/.test(note.innerText?.trim())) note.style.visibility = 'hidden';
  }
});
await page.waitForTimeout(2500);
await page.screenshot({ path: picture, clip: { x: 60, y: 40, width: width - 60, height: height - 40 } });
console.log('complaints:', complaints.filter(text => !/ERR_NAME_NOT_RESOLVED/.test(text)));
await browser.close();
