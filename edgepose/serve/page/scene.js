// The figures in space: a sphere for each joint, a rod for each bone, a label for each person.
import {CylinderGeometry, Color, DirectionalLight, GridHelper, HemisphereLight, InstancedMesh, Matrix4,
        MeshStandardMaterial, PerspectiveCamera, Quaternion, Scene, SphereGeometry, Vector3, WebGLRenderer} from 'three';
import {OrbitControls} from 'three/addons/controls/OrbitControls.js';

const JOINT_M = 0.035, BONE_M = 0.025, HEAD_M = 0.1;  // radii
const MOST_JOINTS = 8192;
const STANDS_M = 1.0;  // of a pelvis above the floor, until feet are seen
const APART_M = 1.5;   // between the people of one feed and those of the next
const FAR_M = 30;      // somebody who seems to be further away is drawn there
const UP = new Vector3(0, 1, 0), UNSEEN = new Color(0xb5bec8);

export const colourOf = id => new Color().setHSL((id * 0.618034) % 1, 0.65, 0.45);

export class Stage {
  constructor(labels) {
    this.labels = labels;
    this.renderer = new WebGLRenderer({antialias: true});
    document.body.prepend(this.renderer.domElement);
    this.scene = new Scene();
    this.scene.background = new Color(0xeef1f4);
    this.camera = new PerspectiveCamera(45, 1, 0.05, 200);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.enableDamping = true;
    this.scene.add(new HemisphereLight(0xffffff, 0x8899aa, 2.2));
    const sun = new DirectionalLight(0xffffff, 1.6);
    sun.position.set(2, 5, 4);
    this.grid = new GridHelper(40, 40, 0x9aa7b4, 0xd2d9e0);
    this.scene.add(sun, this.grid);
    const material = () => new MeshStandardMaterial({roughness: 0.6});
    this.spheres = new InstancedMesh(new SphereGeometry(1, 16, 12), material(), MOST_JOINTS);
    this.rods = new InstancedMesh(new CylinderGeometry(1, 1, 1, 10), material(), MOST_JOINTS);
    for (const mesh of [this.spheres, this.rods]) mesh.frustumCulled = false, this.scene.add(mesh);
    this.isFitted = false, this.floor = null;
    addEventListener('resize', () => this.resize());
    this.renderer.domElement.addEventListener('dblclick', () => this.isFitted = false);
    this.resize();
  }

  resize() {
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.setSize(innerWidth, innerHeight);
    this.camera.aspect = innerWidth / innerHeight;
    this.camera.updateProjectionMatrix();
  }

  // feeds: [{parents, names, poses}], each beside the one before.
  draw(feeds) {
    const figures = [];
    let left = 0;
    for (const feed of feeds) {
      const here = feed.poses ? figuresOf(feed) : [];
      if (!here.length) continue;
      const xs = here.map(figure => figure.joints[0].x), least = Math.min(...xs);
      const shift = figures.length ? left - least : 0;
      for (const figure of here) figure.joints.forEach(joint => joint.x += shift);
      left = Math.max(...xs) + shift + APART_M;
      figures.push(...here);
    }
    this.place(figures);
    this.controls.update();
    this.renderer.render(this.scene, this.camera);
    this.label(figures);
    return figures;
  }

  place(figures) {
    if (figures.length && !this.isFitted) this.fit(figures);
    let spheres = 0, rods = 0;
    const matrix = new Matrix4(), none = new Quaternion();
    for (const {joints, names, parents, seen, colour} of figures) {
      for (let j = 0; j < joints.length && spheres < MOST_JOINTS; j++) {
        const radius = names[j] === 'head' ? HEAD_M : JOINT_M, shown = seen[j] ? colour : UNSEEN;
        matrix.compose(joints[j], none, new Vector3(radius, radius, radius));
        this.spheres.setMatrixAt(spheres, matrix), this.spheres.setColorAt(spheres++, shown);
        if (parents[j] < 0 || rods >= MOST_JOINTS) continue;
        const bone = new Vector3().subVectors(joints[j], joints[parents[j]]), length = bone.length();
        const turn = length > 0 ? new Quaternion().setFromUnitVectors(UP, bone.clone().divideScalar(length)) : none;
        matrix.compose(bone.multiplyScalar(-0.5).add(joints[j]), turn, new Vector3(BONE_M, length, BONE_M));
        this.rods.setMatrixAt(rods, matrix), this.rods.setColorAt(rods++, shown);
      }
    }
    for (const [mesh, count] of [[this.spheres, spheres], [this.rods, rods]]) {
      mesh.count = count, mesh.instanceMatrix.needsUpdate = true;
      if (mesh.instanceColor) mesh.instanceColor.needsUpdate = true;
    }
  }

  // Puts the floor under everybody, and everybody into the picture.
  fit(figures) {
    const all = figures.flatMap(figure => figure.joints);
    const low = all.reduce((at, joint) => at.min(joint), all[0].clone());
    const high = all.reduce((at, joint) => at.max(joint), all[0].clone());
    const middle = low.clone().add(high).multiplyScalar(0.5);
    const size = Math.max(high.y - low.y, (high.x - low.x) / this.camera.aspect, STANDS_M);
    const away = 0.62 * size / Math.tan(this.camera.fov * Math.PI / 360) + (high.z - low.z) / 2;
    this.grid.position.set(Math.round(middle.x), low.y, Math.round(middle.z));
    this.controls.target.copy(middle);
    this.camera.position.set(middle.x + 0.25 * away, middle.y + 0.3 * away, middle.z + away);
    this.isFitted = true;
  }

  label(figures) {
    while (this.labels.children.length < figures.length) this.labels.appendChild(document.createElement('div'));
    while (this.labels.children.length > figures.length) this.labels.lastChild.remove();
    figures.forEach(({id, joints, names, colour}, i) => {
      const top = joints[Math.max(0, names.indexOf('head'))].clone();
      top.y += 1.8 * HEAD_M;
      top.project(this.camera);
      const {style} = this.labels.children[i];
      this.labels.children[i].textContent = id;
      style.display = top.z < 1 ? '' : 'none';
      style.left = `${(top.x + 1) / 2 * innerWidth}px`, style.top = `${(1 - top.y) / 2 * innerHeight}px`;
      style.background = `#${colour.getHexString()}`;
    });
  }
}

// The people of one feed: joints in three's axes, x right, y up, z towards the viewer.
function figuresOf({parents, names, poses}) {
  return poses.ids.map((id, n) => {
    let [x, y, z] = poses.root_m.slice(3 * n, 3 * n + 3);
    if (!Number.isFinite(x + y + z)) [x, y, z] = [2 * n, 0, 4];
    const shrink = Math.min(1, FAR_M / Math.hypot(x, y, z));
    const joints = names.map((_, j) => {
      const at = 3 * (n * poses.joints + j);
      return new Vector3(poses.joints_m[at] + shrink * x, -(poses.joints_m[at + 1] + shrink * y),
                         -(poses.joints_m[at + 2] + shrink * z));
    });
    const isPredicted = poses.predicted_s[n] > 0;
    const seen = names.map((_, j) => !isPredicted && poses.is_seen[n * poses.joints + j]);
    return {id, joints, names, parents, seen, colour: colourOf(id)};
  });
}
